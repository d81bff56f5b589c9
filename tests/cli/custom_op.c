/* A library of one custom operator, com.nobody.Secret(x) = 2 x + 1, for the tests of --custom-ops.
 *
 * The headers of onnxruntime come with no wheel. What it takes of the C API is written out here: the table of
 * functions only ever grows at its end, so the places of these, and the first fields of OrtCustomOp, stay what they are.
 */
#include <stddef.h>
#include <stdint.h>

typedef void *Status; /* NULL is success */
typedef Status (*Function)();

enum {
  CREATE_DOMAIN = 26, DOMAIN_ADD = 27, ADD_DOMAIN = 28, TENSOR_DATA = 51, RANK = 61, DIMENSIONS = 62, ELEMENTS = 64,
  TYPE_AND_SHAPE = 65, GET_INPUT = 90, GET_OUTPUT = 91, RELEASE_SHAPE = 99, API_VERSION = 16, FLOAT = 1
};

typedef struct { const Function *(*get_api)(uint32_t version); const char *(*version)(void); } ApiBase;

typedef struct Operator {
  uint32_t version;
  void *(*create)(const struct Operator *, const Function *api, const void *info);
  const char *(*name)(const struct Operator *);
  const char *(*provider)(const struct Operator *);
  int (*input_type)(const struct Operator *, size_t);
  size_t (*inputs)(const struct Operator *);
  int (*output_type)(const struct Operator *, size_t);
  size_t (*outputs)(const struct Operator *);
  void (*compute)(void *kernel, void *context);
  void (*destroy)(void *kernel);
  int (*input_kind)(const struct Operator *, size_t);
  int (*output_kind)(const struct Operator *, size_t);
  int (*memory)(const struct Operator *, size_t);
  void *newer[32]; /* not looked at for the version that this one says it is */
} Operator;

static const Function *api;

static void *create(const Operator *op, const Function *table, const void *info) { return (void *)op; }
static const char *name(const Operator *op) { return "Secret"; }
static const char *provider(const Operator *op) { return NULL; }
static int type(const Operator *op, size_t index) { return FLOAT; }
static int required(const Operator *op, size_t index) { return 0; }
static size_t one(const Operator *op) { return 1; }
static void destroy(void *kernel) {}

static void compute(void *kernel, void *context) {
  void *input, *output, *shape;
  float *from, *to;
  size_t rank, count;
  int64_t dimensions[16];
  api[GET_INPUT](context, (size_t)0, &input);
  api[TYPE_AND_SHAPE](input, &shape);
  api[RANK](shape, &rank);
  api[DIMENSIONS](shape, dimensions, rank);
  api[ELEMENTS](shape, &count);
  ((void (*)(void *))api[RELEASE_SHAPE])(shape);
  api[GET_OUTPUT](context, (size_t)0, dimensions, rank, &output);
  api[TENSOR_DATA](input, &from);
  api[TENSOR_DATA](output, &to);
  for (size_t at = 0; at < count; at++) to[at] = 2 * from[at] + 1;
}

static Operator secret = {13, create, name, provider, type, one, type, one, compute, destroy, required, required, required};

Status RegisterCustomOps(void *options, const ApiBase *base) {
  void *domain;
  Status status;
  api = base->get_api(API_VERSION);
  status = api[CREATE_DOMAIN]("com.nobody", &domain);
  if (!status) status = api[DOMAIN_ADD](domain, &secret);
  return status ? status : api[ADD_DOMAIN](options, domain);
}

/* attention_f64.c: attention of one head in double; see attention_template.h. */
#include "ops/cpu/attention.h"
#include "ops/cpu/philox.h"
#include "ops/cpu/rows.h"

#define REAL            double
#define REAL_BYTES      8
#define ROW(name)       wr__row_##name##_f64
#define EXP(x)          wr__exp_row_f64(x)
#define LOG(x)          log(x)
#define ATTENTION(name) wr__attention_##name##_f64
#include "ops/cpu/attention_template.h"

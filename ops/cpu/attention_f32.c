/* attention_f32.c: attention of one head in float; see attention_template.h. */
#include "ops/cpu/attention.h"
#include "ops/cpu/philox.h"
#include "ops/cpu/rows.h"

#define REAL            float
#define REAL_BYTES      4
#define ROW(name)       wr__row_##name##_f32
#define EXP(x)          wr__exp_row_f32(x)
#define LOG(x)          logf(x)
#define ATTENTION(name) wr__attention_##name##_f32
#include "ops/cpu/attention_template.h"

/* check_values.h: sizes and values for wr_check_bijection; for autodiff/check_*.c only. */
#ifndef WEIR_CHECK_VALUES_H
#define WEIR_CHECK_VALUES_H

#include "autodiff/check_bijection.h"

typedef enum wr__fill { WR__REAL, WR__MASK, WR__LENGTH, WR__INDEX, WR__FIXED } wr__fill;

/* An input of the graph with its values in this run. */
typedef struct wr__fed {
    uint32_t node;
    const char *name;
    wr__fill fill;
    wr_dim limit; /* of lengths and indices */
    int number;   /* which input of the bijection, -1: none */
    wr_dtype dtype;
    int rank;
    int64_t dim[WR_MAX_RANK], n;
    double *real;
    int32_t *whole;
} wr__fed;

typedef struct wr__values {
    const wr_bijection *f;
    const wr_check_options *o;
    wr_graph *g;
    wr_binding size, first; /* now, and before anything was made longer */
    wr__fed *fed;
    int n_fed;
} wr__values;

/* Inputs of the graph so far, which symbols have which values, and fill all. */
wr_status wr__values_begin(wr__values *v, const wr_bijection *f, const wr_check_options *o,
                           wr_error *err);
void wr__values_free(wr__values *v);
/* Allocate and fill by the present sizes. */
wr_status wr__values_fill(wr__values *v, wr_error *err);
/* Add an input that was made since; it is filled with zeros. */
wr_status wr__values_add(wr__values *v, wr input, wr_error *err);
wr__fed *wr__values_find(const wr__values *v, uint32_t node);
/* A normal number of a stream, the same every time. */
double wr__values_normal(uint64_t seed, uint64_t stream, uint64_t i);

/* Run a program with these values. */
wr_status wr__values_run(const wr__values *v, wr_session *s, wr_program *p, wr_error *err);

#endif

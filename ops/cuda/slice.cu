/* slice.cu: rows that copy parts of an axis; x is seen as [outer, size, inner] around it. */
#include "ops/cuda/copy.cuh"

namespace {

int64_t bytes_each(const wr_tensor *x) { return x->dtype == WR_F64 ? 8 : 4; }

/* A tensor around an axis, in bytes. */
struct around {
    int64_t outer, size, inner;
};

around around_axis(const wr_tensor *x, int axis) {
    return around{wr_extent(x, 0, axis), x->dim[axis],
                  wr_extent(x, axis + 1, x->rank) * bytes_each(x)};
}

/* Positions start, start + step, .. of `whole` and all those of `part`, in one direction. */
wr_status copy_part(const wr_call *c, const wr_tensor *whole, const wr_tensor *part, int axis,
                    int64_t start, int64_t step, bool into_whole) {
    const around w = around_axis(whole, axis), p = around_axis(part, axis);
    char *at = static_cast<char *>(whole->data) + start * w.inner;
    wr_cuda_runs r = {at,      part->data,       p.outer,        p.size,
                      p.inner, w.size * w.inner, step * w.inner, p.size * p.inner,
                      p.inner};
    if (into_whole)
        r = wr_cuda_runs{part->data,       at,      p.outer,          p.size,        p.inner,
                         p.size * p.inner, p.inner, w.size * w.inner, step * w.inner};
    return wr_cuda_copy(c, &r);
}

int axis_of(const wr_call *c) { return static_cast<int>(c->attr[0].i); }

wr_status slice_row(const wr_call *c) {
    return copy_part(c, &c->in[0], &c->out[0], axis_of(c), c->attr[1].i, c->attr[3].i, false);
}

wr_status place_row(const wr_call *c) {
    const wr_tensor *out = &c->out[0];
    wr_status status = wr_cuda_zero(c, out->data, static_cast<size_t>(out->n * bytes_each(out)));
    if (status != WR_OK) return status;
    return copy_part(c, out, &c->in[0], axis_of(c), c->attr[1].i, c->attr[3].i, true);
}

wr_status concat_row(const wr_call *c) {
    int64_t start = 0;
    for (int k = 0; k < c->n_in; k++) {
        wr_status status = copy_part(c, &c->out[0], &c->in[k], axis_of(c), start, 1, true);
        if (status != WR_OK) return status;
        start += c->in[k].dim[axis_of(c)];
    }
    return WR_OK;
}

wr_status split_row(const wr_call *c) {
    const int64_t count = c->out[0].dim[axis_of(c)];
    for (int k = 0; k < c->n_out; k++) {
        if (c->out[k].data == NULL) continue;
        wr_status status = copy_part(c, &c->in[0], &c->out[k], axis_of(c), k * count, 1, false);
        if (status != WR_OK) return status;
    }
    return WR_OK;
}

} // namespace

const wr_cuda_row wr_cuda_rows_slice[] = {{"slice", slice_row, NULL, NULL},
                                          {"place", place_row, NULL, NULL},
                                          {"concat", concat_row, NULL, NULL},
                                          {"split_2", split_row, NULL, NULL},
                                          {"split_3", split_row, NULL, NULL},
                                          {"split_4", split_row, NULL, NULL},
                                          WR_CUDA_ROWS_END};

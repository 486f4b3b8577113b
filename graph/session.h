/* session.h: what lives across runs: parameters, states, arenas, the plan cache, the device.
 *
 * Programs of one model (training step, evaluation, decoding) run in one session and share the
 * persistent tensors by name. Output tensors stay valid until the session's next run. */
#ifndef WEIR_SESSION_H
#define WEIR_SESSION_H

#include "graph/program.h"

typedef struct wr_session wr_session;

typedef struct wr_session_options {
    const char *device; /* "cpu", "cuda", or "auto": cuda where it works; NULL: cpu */
    int threads;        /* 0: all processors */
    uint64_t seed;
    int plan_cap;           /* plans kept over all programs; 0: 64 */
    bool profile;           /* time every step */
    bool trap_nan;          /* stop at the first node that makes a NaN; the rules are in trap.h */
    wr_precision precision; /* of matrix products on a device that has a choice */
    /* A run returns when its work is given to the device; what fails there (an index out of range)
     * is told by the next run, wait or read. Without it a run waits for its end. */
    bool deferred;
    bool no_replay; /* as in wr_device_options */
} wr_session_options;

wr_status wr_session_new(const wr_session_options *o, wr_session **session, wr_error *err);
void wr_session_free(wr_session *s);
/* The device's name ("cpu", "cuda"), and one line that says why "auto" took the CPU, or "". */
const char *wr_session_device(const wr_session *s);
const char *wr_session_note(const wr_session *s);

/* One fed tensor. Host memory, read during the run only. */
typedef struct wr_feed {
    const char *name; /* the input's full name */
    const void *data;
    int rank;
    int64_t dim[WR_MAX_RANK];
} wr_feed;

/* Run a program. Symbols get their values from the feeds' sizes; parameters and states that the
 * session does not have yet begin by their initialiser: the same values for the same seed and name.
 * Errors: an input not fed or fed twice, a size that contradicts, a value out of a symbol's range;
 * with trap_nan, the report of the first NaN.
 */
wr_status wr_session_run(wr_session *s, wr_program *p, int n_feeds, const wr_feed *feeds,
                         wr_error *err);
/* Output k of the last run; on the host. It is read from the device when it is first asked for;
 * where the device fails in between, all its bits are set (floats are NaN) and the next call that
 * has a status tells why. */
const wr_tensor *wr_session_output(wr_session *s, int k);
/* Keep the first n outputs of the last run, scalars, n <= WR_KEPT_NUMBERS, in one of WR_KEPT_SLOTS
 * slots; wr_session_kept() reads all of a slot later, when other runs have been given to a deferred
 * session, without waiting for those. Errors: WR_ERR_USAGE for another slot, more outputs than
 * there are or than fit, or one that is no scalar. */
wr_status wr_session_keep(wr_session *s, int slot, int n, wr_error *err);
wr_status wr_session_kept(wr_session *s, int slot, double *value, wr_error *err);
/* Wait for all work given to the device. */
wr_status wr_session_wait(wr_session *s, wr_error *err);
/* The plan of the last run. */
const wr_plan *wr_session_plan(const wr_session *s);
/* From now on every step is timed (options.profile), or none; what was measured is forgotten. */
void wr_session_profile(wr_session *s, bool on);
/* Pieces of work that the last run gave to the device; see device.h. */
int wr_session_launches(const wr_session *s);
/* Forget the plans of a program that is about to be freed. */
void wr_session_forget(wr_session *s, const wr_program *p);
/* Make the parameters of a program, and its states of known size, without running it. */
wr_status wr_session_prepare(wr_session *s, const wr_program *p, wr_error *err);

/* The number of runs that used random numbers is the caller's: it sets the step before a run. */
void wr_session_set_step(wr_session *s, uint64_t step);
uint64_t wr_session_step(const wr_session *s);

/* ---- persistent tensors, in order of first appearance ---- */

typedef struct wr_stored {
    const char *name;
    wr_tensor tensor; /* data is device memory */
    bool trainable;
} wr_stored;

int wr_session_stored(const wr_session *s);
const wr_stored *wr_session_stored_at(const wr_session *s, int index);
int wr_session_find(const wr_session *s, const char *name); /* -1: none */
/* Copy whole tensors between host memory and the session. */
wr_status wr_session_read(wr_session *s, int index, void *to, wr_error *err);
wr_status wr_session_write(wr_session *s, int index, const void *from, wr_error *err);
/* Values for a tensor that no program has asked for yet (a checkpoint being loaded). */
wr_status wr_session_define(wr_session *s, const char *name, bool trainable, wr_dtype t, int rank,
                            const int64_t *dims, const void *data, wr_error *err);

typedef struct wr_session_counters {
    uint64_t runs, plan_hits, plan_misses, plan_evictions;
    double plan_seconds;
    size_t persistent_bytes, arena_bytes; /* arena: the largest so far, allocated */
} wr_session_counters;
wr_session_counters wr_session_count(const wr_session *s);
int wr_session_threads(const wr_session *s);

#endif

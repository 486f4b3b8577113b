/* synth.h: what the kinds of `weir synth` share: where their files go. */
#ifndef WEIR_CLI_SYNTH_H
#define WEIR_CLI_SYNTH_H

#include "cli/cli.h"

#include <cJSON.h>

enum { WR_SYNTH_SPLITS = 3 }; /* train, valid, test */

/* DIR/train.LANG, DIR/valid.LANG, DIR/test.LANG of two languages, and DIR/synth.json. */
typedef struct wr_synth_out {
    const char *dir;
    const char *lang[2]; /* source and target */
} wr_synth_out;

/* The files of a run before may be replaced, those of anybody else not: WR_ERR_INPUT names one. */
wr_status wr_synth_check_out(const wr_synth_out *out, wr_error *err);

/* Make the directory and write synth.json. Takes `stamp`, whose NULL is an error of memory. */
wr_status wr_synth_begin(const wr_synth_out *out, cJSON *stamp, wr_error *err);

/* Write one side of a split, and say so on stdout. */
wr_status wr_synth_write(const wr_synth_out *out, int split, int side, const wr_str *text,
                         size_t lines, wr_error *err);

/* The same for another file: DIR/SPLIT.NAME. */
wr_status wr_synth_write_as(const wr_synth_out *out, int split, const char *name,
                            const wr_str *text, size_t lines, wr_error *err);

/* A twentieth of the corpus, from 1 to 1000. */
int64_t wr_synth_held_out(int64_t count);

/* The kinds: argv[0] is the kind's name; they return the exit status. */
int wr_synth_numbers(int argc, char **argv);
int wr_synth_corrupt(int argc, char **argv);
int wr_synth_multimodal(int argc, char **argv);

#endif

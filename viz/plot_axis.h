/* plot_axis.h: round ticks. Internal to viz/. */
#ifndef WEIR_VIZ_PLOT_AXIS_H
#define WEIR_VIZ_PLOT_AXIS_H

#include "graph/base.h"

enum { WR__TICKS = 16, WR__MINOR_TICKS = 160, WR__TICK_TEXT = 24 };

/* An axis from lo to hi with ticks and their labels; minor ticks (of logarithmic axes) have none.
 */
typedef struct wr__axis {
    bool log;
    double lo, hi;
    size_t n, minor_n;
    double tick[WR__TICKS], minor[WR__MINOR_TICKS];
    char label[WR__TICKS][WR__TICK_TEXT];
} wr__axis;

/* An axis for values from min to max (finite; positive when `log`) with about `ticks` ticks, at
 * most WR__TICKS. A linear one begins and ends at a tick and holds 0 when min is near it. */
void wr__axis_fit(wr__axis *a, double min, double max, bool log, int ticks);

/* Where a value is, 0 at lo and 1 at hi. */
double wr__axis_place(const wr__axis *a, double value);

#endif

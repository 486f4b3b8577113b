/* analyzer.h: included before every file that clang-tidy reads, and by nothing else. clang's
 * analyzer does not look into other files, so it believes that wr_fail() may return WR_OK; here it
 * sees that the status passed is the status returned. */
#include "graph/base.h"

#define wr_fail(err, status, ...)        ((void)(wr_fail)(err, status, __VA_ARGS__), (status))
#define wr_fail_memory(err, what, bytes) ((void)(wr_fail_memory)(err, what, bytes), WR_ERR_MEMORY)

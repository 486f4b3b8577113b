/* dataset_dir.c: replacing a dataset directory as a whole; see dataset_dir.h. */
#define _GNU_SOURCE /* renameat2 */
#include "data/dataset_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const own_files[] = {WR__DATASET_JSON, WR__JOINT_MODEL, WR__SRC_MODEL,
                                        WR__TGT_MODEL,    "train.pairs",   "valid.pairs",
                                        "test.pairs"};
enum { OWN_FILES = sizeof own_files / sizeof own_files[0] };

const char *wr__split_file(wr_split split) { return own_files[4 + split]; }

/* ---- what is in a directory ---- */

/* True for the files of a dataset and their temporary names. */
static bool is_own(const char *name) {
    for (int i = 0; i < OWN_FILES; i++) {
        size_t n = strlen(own_files[i]);
        if (strncmp(name, own_files[i], n) == 0 &&
            (name[n] == '\0' || strcmp(name + n, ".tmp") == 0))
            return true;
    }
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool is_file_in(const char *dir, const char *name) {
    struct stat st;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool there = fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (fd >= 0) close(fd);
    return there && S_ISREG(st.st_mode);
}

/* True when every entry of `dir` is a file of a dataset. `foreign` (err) names the first that is
 * not; `*entries` counts all. */
static wr_status only_own_files(const char *dir, size_t *entries, wr_error *err) {
    DIR *d = opendir(dir);
    if (d == NULL)
        return wr_fail(err, WR_ERR_IO, "%s: cannot look into the directory: %s", dir,
                       strerror(errno));
    wr_status status = WR_OK;
    *entries = 0;
    for (struct dirent *e; status == WR_OK && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) ++*entries;
        if (!is_own(e->d_name))
            status = wr_fail(err, WR_ERR_INPUT,
                             "%s: holds %s, which is not part of a dataset, and would be replaced "
                             "as a whole; move it away or name another directory",
                             dir, e->d_name);
    }
    closedir(d);
    return status;
}

wr_status wr_dataset_may_write(const char *dir, wr_error *err) {
    struct stat st;
    size_t entries = 0;
    if (dir[0] == '\0') return wr_fail(err, WR_ERR_INPUT, "the output directory has no name");
    if (stat(dir, &st) != 0) {
        if (errno == ENOENT) return WR_OK;
        return wr_fail(err, WR_ERR_IO, "%s: %s", dir, strerror(errno));
    }
    if (!S_ISDIR(st.st_mode))
        return wr_fail(err, WR_ERR_INPUT, "%s: exists and is not a directory", dir);
    wr_status status = only_own_files(dir, &entries, err);
    if (status == WR_OK && entries > 0 && !is_file_in(dir, WR__DATASET_JSON))
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: exists, is not empty and has no " WR__DATASET_JSON
                       ", so it is no dataset to replace; name another directory",
                       dir);
    return status;
}

/* ---- removing and making ---- */

/* Remove the files of a dataset in `dir` and then `dir`; other files keep both alive. */
static void remove_own(const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    for (int i = 0; i < OWN_FILES; i++) {
        char tmp[32];
        snprintf(tmp, sizeof tmp, "%s.tmp", own_files[i]);
        unlinkat(fd, own_files[i], 0);
        unlinkat(fd, tmp, 0);
    }
    close(fd);
    rmdir(dir);
}

static void swap_free(wr__dir_swap *swap) {
    free(swap->dir);
    free(swap->partial);
    *swap = (wr__dir_swap){0};
}

/* The directory's own name without links and slashes at the end, so that one beside it can be
 * named. */
static wr_status resolve(wr__dir_swap *swap, const char *dir, wr_error *err) {
    wr_str partial = {0};
    swap->dir = realpath(dir, NULL);
    if (swap->dir == NULL) swap->dir = wr_strdup(dir);
    if (swap->dir != NULL) {
        size_t n = strlen(swap->dir);
        while (n > 1 && swap->dir[n - 1] == '/')
            swap->dir[--n] = '\0';
        wr_str_add(&partial, "%s.partial", swap->dir);
    }
    if (swap->dir == NULL || partial.oom) {
        wr_str_free(&partial);
        return wr_fail_memory(err, "a path", strlen(dir));
    }
    swap->partial = partial.text;
    return WR_OK;
}

static wr_status make_parent(const char *dir, wr_error *err) {
    const char *slash = strrchr(dir, '/');
    if (slash == NULL || slash == dir) return WR_OK;
    char *parent = strndup(dir, (size_t)(slash - dir));
    if (parent == NULL) return wr_fail_memory(err, "a path", strlen(dir));
    wr_status status = wr_make_dirs(parent, err);
    free(parent);
    return status;
}

wr_status wr__dir_swap_begin(wr__dir_swap *swap, const char *dir, wr_error *err) {
    *swap = (wr__dir_swap){0};
    wr_status status = wr_dataset_may_write(dir, err);
    if (status == WR_OK) status = resolve(swap, dir, err);
    if (status == WR_OK) status = make_parent(swap->dir, err);
    if (status == WR_OK) {
        remove_own(swap->partial);
        if (mkdir(swap->partial, 0777) != 0)
            status = wr_fail(err, WR_ERR_IO, "%s: cannot make the directory: %s", swap->partial,
                             strerror(errno));
    }
    if (status != WR_OK) swap_free(swap);
    return status;
}

/* ---- taking the place ---- */

static void sync_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    char *parent = slash == NULL ? wr_strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    int fd = parent == NULL ? -1 : open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

/* Exchange the two names; where the file system cannot, move the old directory away first (a kill
 * between the two steps leaves it as DIR.old). */
static bool exchange(const char *partial, const char *dir) {
    if (renameat2(AT_FDCWD, partial, AT_FDCWD, dir, RENAME_EXCHANGE) == 0) return true;
    if (errno != EINVAL && errno != ENOSYS) return false;
    wr_str old = {0};
    wr_str_add(&old, "%s.old", dir);
    bool done = !old.oom && rename(dir, old.text) == 0;
    if (done && rename(partial, dir) != 0) {
        int why = errno;
        rename(old.text, dir);
        errno = why;
        done = false;
    }
    if (done) rename(old.text, partial);
    wr_str_free(&old);
    return done;
}

wr_status wr__dir_swap_commit(wr__dir_swap *swap, wr_error *err) {
    /* A missing or empty directory is replaced by rename; one with files is exchanged. */
    bool done = rename(swap->partial, swap->dir) == 0;
    bool old = !done && (errno == ENOTEMPTY || errno == EEXIST);
    if (old) done = exchange(swap->partial, swap->dir);
    if (!done) {
        wr_status status = wr_fail(err, WR_ERR_IO, "%s: cannot put the new dataset here: %s",
                                   swap->dir, strerror(errno));
        wr__dir_swap_abandon(swap);
        return status;
    }
    sync_parent(swap->dir);
    if (old) remove_own(swap->partial);
    swap_free(swap);
    return WR_OK;
}

void wr__dir_swap_abandon(wr__dir_swap *swap) {
    remove_own(swap->partial);
    swap_free(swap);
}

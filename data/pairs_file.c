/* pairs_file.c: the .pairs file of a dataset directory, written and opened; the layout and the
 * contracts are in dataset.h. */
#define _GNU_SOURCE /* O_CLOEXEC */
#include "data/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

typedef struct header {
    char magic[8];
    uint32_t order, version;
    uint32_t src_vocab, tgt_vocab;
    uint64_t pairs, src_ids, tgt_ids, src_text, tgt_text;
    uint32_t body_crc, header_crc;
} header;
_Static_assert(sizeof(header) == 72, "the header has no padding");

static const char MAGIC[8] = {'w', 'e', 'i', 'r', 'p', 'a', 'i', 'r'};
enum { ORDER = 0x01020304, VERSION = 1, SECTIONS = 8 };

/* The parts of the body in their order in the file. */
typedef struct section {
    const void *data;
    uint64_t bytes;
} section;

static uint32_t checksum(uint32_t crc, const void *data, uint64_t n) {
    return (uint32_t)crc32_z(crc, data, (z_size_t)n);
}

static uint32_t header_checksum(const header *h) {
    return checksum(0, h, offsetof(header, header_crc));
}

/* ---- writing ---- */

static void list_sections(const wr_pairs *p, const header *h, section *s) {
    const uint64_t at_bytes = (h->pairs + 1) * sizeof(uint64_t);
    s[0] = (section){p->src.id_at, at_bytes};
    s[1] = (section){p->tgt.id_at, at_bytes};
    s[2] = (section){p->src.text_at, at_bytes};
    s[3] = (section){p->tgt.text_at, at_bytes};
    s[4] = (section){p->src.id, h->src_ids * sizeof(int32_t)};
    s[5] = (section){p->tgt.id, h->tgt_ids * sizeof(int32_t)};
    s[6] = (section){p->src.text, h->src_text};
    s[7] = (section){p->tgt.text, h->tgt_text};
}

wr_status wr_pairs_write(const char *path, const wr_pairs *pairs, int src_vocab, int tgt_vocab,
                         wr_error *err) {
    size_t n = pairs->n;
    header h = {.order = ORDER,
                .version = VERSION,
                .src_vocab = (uint32_t)src_vocab,
                .tgt_vocab = (uint32_t)tgt_vocab,
                .pairs = n,
                .src_ids = pairs->src.id_at[n],
                .tgt_ids = pairs->tgt.id_at[n],
                .src_text = pairs->src.text_at[n],
                .tgt_text = pairs->tgt.text_at[n]};
    section part[SECTIONS];
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    list_sections(pairs, &h, part);
    for (int i = 0; i < SECTIONS; i++)
        if (part[i].bytes > 0) h.body_crc = checksum(h.body_crc, part[i].data, part[i].bytes);
    h.header_crc = header_checksum(&h);
    wr_replace out;
    wr_status status = wr_replace_begin(&out, path, err);
    if (status != WR_OK) return status;
    status = wr_replace_write(&out, &h, sizeof h, err);
    for (int i = 0; i < SECTIONS && status == WR_OK; i++)
        status = wr_replace_write(&out, part[i].data, (size_t)part[i].bytes, err);
    if (status == WR_OK) return wr_replace_commit(&out, err);
    wr_replace_abandon(&out);
    return status;
}

/* ---- opening ---- */

static wr_status damaged(const char *path, const char *what, wr_error *err) {
    return wr_fail(err, WR_ERR_INPUT, "%s: damaged: %s; make it again with `weir prepare`", path,
                   what);
}

static wr_status map_file(const char *path, wr_pairs_file *out, wr_error *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return wr_fail(err, WR_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    wr_status status = WR_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = wr_fail(err, WR_ERR_IO, "%s: not a regular file", path);
    } else if ((uint64_t)st.st_size < sizeof(header)) {
        status = damaged(path, "shorter than its header", err);
    } else {
        out->map_bytes = (size_t)st.st_size;
        out->map = mmap(NULL, out->map_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (out->map == MAP_FAILED) {
            out->map = NULL;
            status = wr_fail(err, WR_ERR_IO, "%s: cannot map: %s", path, strerror(errno));
        }
    }
    close(fd);
    return status;
}

/* a * b + *sum into *sum; false when it does not fit. */
static bool add_product(uint64_t a, uint64_t b, uint64_t *sum) {
    uint64_t product;
    return !__builtin_mul_overflow(a, b, &product) && !__builtin_add_overflow(*sum, product, sum);
}

static bool sizes_agree(const header *h, uint64_t file_bytes) {
    uint64_t want = sizeof *h;
    return h->pairs < UINT64_MAX && add_product(h->pairs + 1, 4 * sizeof(uint64_t), &want) &&
           add_product(h->src_ids, sizeof(int32_t), &want) &&
           add_product(h->tgt_ids, sizeof(int32_t), &want) && add_product(h->src_text, 1, &want) &&
           add_product(h->tgt_text, 1, &want) && want == file_bytes;
}

static wr_status check_header(const char *path, const header *h, uint64_t file_bytes,
                              wr_error *err) {
    if (memcmp(h->magic, MAGIC, sizeof MAGIC) != 0)
        return damaged(path, "it does not begin like a .pairs file", err);
    if (h->order != ORDER)
        return damaged(path, "it was written on a machine of the other byte order", err);
    if (h->version != VERSION)
        return wr_fail(err, WR_ERR_INPUT,
                       "%s: version %u of the format, this program reads version %d; make it again "
                       "with `weir prepare`",
                       path, h->version, VERSION);
    if (h->header_crc != header_checksum(h)) return damaged(path, "wrong check sum (header)", err);
    if (h->src_vocab > INT32_MAX || h->tgt_vocab > INT32_MAX)
        return damaged(path, "impossible vocabulary size", err);
    if (!sizes_agree(h, file_bytes))
        return damaged(path, "its length is not what its header says; it was cut or grew", err);
    return WR_OK;
}

static bool offsets_rise(const uint64_t *at, uint64_t n, uint64_t end) {
    if (at[0] != 0 || at[n] != end) return false;
    for (uint64_t i = 0; i < n; i++)
        if (at[i] > at[i + 1]) return false;
    return true;
}

static bool ids_are_below(const int32_t *id, uint64_t n, uint32_t vocab) {
    bool all = true;
    for (uint64_t i = 0; i < n; i++)
        all &= (uint32_t)id[i] < vocab;
    return all;
}

/* Each text must end in a NUL, also an empty one. */
static bool lines_end(const wr_side *side, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        uint64_t end = side->text_at[i + 1];
        if (end == side->text_at[i] || side->text[end - 1] != '\0') return false;
    }
    return true;
}

static bool side_is_sound(const wr_side *side, uint64_t n, uint64_t ids, uint64_t text,
                          uint32_t vocab) {
    return offsets_rise(side->id_at, n, ids) && offsets_rise(side->text_at, n, text) &&
           ids_are_below(side->id, ids, vocab) && lines_end(side, n);
}

/* Point the view at the sections of the mapped file, whose sizes are known to agree. */
static void point_at_sections(const header *h, wr_pairs *p) {
    const char *at = (const char *)h + sizeof *h;
    const size_t step = (size_t)(h->pairs + 1) * sizeof(uint64_t);
    p->n = (size_t)h->pairs;
    p->src.id_at = (const uint64_t *)(const void *)at;
    p->tgt.id_at = (const uint64_t *)(const void *)(at + step);
    p->src.text_at = (const uint64_t *)(const void *)(at + 2 * step);
    p->tgt.text_at = (const uint64_t *)(const void *)(at + 3 * step);
    p->src.id = (const int32_t *)(const void *)(at + 4 * step);
    p->tgt.id = p->src.id + h->src_ids;
    p->src.text = (const char *)(p->tgt.id + h->tgt_ids);
    p->tgt.text = p->src.text + h->src_text;
}

static wr_status check_body(const char *path, const header *h, wr_pairs_file *out, wr_error *err) {
    if (checksum(0, h + 1, out->map_bytes - sizeof *h) != h->body_crc)
        return damaged(path, "wrong check sum", err);
    point_at_sections(h, &out->pairs);
    if (!side_is_sound(&out->pairs.src, h->pairs, h->src_ids, h->src_text, h->src_vocab) ||
        !side_is_sound(&out->pairs.tgt, h->pairs, h->tgt_ids, h->tgt_text, h->tgt_vocab))
        return damaged(path, "offsets, token ids or line ends are impossible", err);
    out->src_vocab = (int)h->src_vocab;
    out->tgt_vocab = (int)h->tgt_vocab;
    return WR_OK;
}

wr_status wr_pairs_open(const char *path, wr_pairs_file *out, wr_error *err) {
    *out = (wr_pairs_file){0};
    wr_status status = map_file(path, out, err);
    if (status != WR_OK) return status;
    const header *h = out->map;
    status = check_header(path, h, out->map_bytes, err);
    if (status == WR_OK) status = check_body(path, h, out, err);
    if (status != WR_OK) wr_pairs_close(out);
    return status;
}

void wr_pairs_close(wr_pairs_file *file) {
    if (file->map != NULL) munmap(file->map, file->map_bytes);
    *file = (wr_pairs_file){0};
}

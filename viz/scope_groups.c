/* scope_groups.c: see scope_groups.h. */
#include "viz/scope_groups.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* "decoder.layer12.self" to depth 2: "decoder.layer*". */
static void print_group(const char *path, int depth, wr_str *out) {
    while (*path != '\0' && depth-- > 0) {
        size_t n = strcspn(path, "."), stem = n;
        while (stem > 0 && isdigit((unsigned char)path[stem - 1]))
            stem--;
        bool numbered = stem > 0 && stem < n;
        wr_str_add(out, "%s%.*s%s", out->len > 0 ? "." : "", (int)(numbered ? stem : n), path,
                   numbered ? "*" : "");
        path += n + (path[n] == '.');
    }
}

/* The group of that name, made when there is none; UINT32_MAX when memory is out. */
static uint32_t group_named(wr_scope_groups *x, const char *name) {
    for (size_t i = 0; i < x->n; i++)
        if (strcmp(x->name[i], name) == 0) return (uint32_t)i;
    if (!wr_grow(&x->name, &x->cap, x->n + 1, sizeof *x->name)) return UINT32_MAX;
    x->name[x->n] = wr_strdup(name);
    return x->name[x->n] == NULL ? UINT32_MAX : (uint32_t)x->n++;
}

bool wr_scope_groups_new(wr_scope_groups *x, const wr_graph *g, int depth) {
    *x = (wr_scope_groups){.g = g, .n_scopes = 1};
    for (uint32_t id = 1; id < wr_node_count(g); id++)
        if (wr_node_at(g, id)->scope >= x->n_scopes) x->n_scopes = wr_node_at(g, id)->scope + 1;
    x->of_scope = calloc(x->n_scopes, sizeof *x->of_scope);
    bool ok = x->of_scope != NULL && group_named(x, "") == 0;
    wr_str path = {0}, name = {0};
    for (uint32_t s = 1; s < x->n_scopes && ok; s++) {
        wr_str_clear(&path);
        wr_str_clear(&name);
        wr_scope_path(g, s, &path);
        print_group(wr_str_text(&path), depth, &name);
        x->of_scope[s] = group_named(x, wr_str_text(&name));
        ok = !path.oom && !name.oom && x->of_scope[s] != UINT32_MAX;
    }
    wr_str_free(&path);
    wr_str_free(&name);
    return ok;
}

void wr_scope_groups_free(wr_scope_groups *x) {
    for (size_t i = 0; i < x->n; i++)
        free(x->name[i]);
    free(x->name);
    free(x->of_scope);
    *x = (wr_scope_groups){0};
}

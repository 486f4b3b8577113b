/* test_html.c: the pages' text: strings that do no harm, a model's data, failing allocations. */
#include "autodiff/grad.h"
#include "graph/plan.h"
#include "helpers/alloc.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "viz/html.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>
#include <cmocka.h>

static void test_strings(void **state) {
    static const struct {
        const char *text, *json;
    } CASES[] = {
        {"plain", "\"plain\""},
        {"", "\"\""},
        {NULL, "null"},
        {"</script>", "\"\\u003c/script\\u003e\""},
        {"<!--&", "\"\\u003c!--\\u0026\""},
        {"\"\\\n\x7F\x01", "\"\\u0022\\u005c\\u000a\\u007f\\u0001\""},
        {"\xFF\xC3(", "\"\\ufffd\\ufffd(\""},
        {"na\xC3\xAFve \xF0\x9F\x90\x9F", "\"na\xC3\xAFve \xF0\x9F\x90\x9F\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        wr_str out = {0};
        wr_html_string(&out, CASES[i].text);
        assert_string_equal(wr_str_text(&out), CASES[i].json);
        wr_str_free(&out);
    }
}

static void test_numbers(void **state) {
    static const struct {
        double value;
        const char *json;
    } CASES[] = {{0, "0"}, {-1.5, "-1.5"}, {1e300, "1e+300"}, {NAN, "null"}, {INFINITY, "null"}};
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        wr_str out = {0};
        wr_html_number(&out, CASES[i].value);
        assert_string_equal(wr_str_text(&out), CASES[i].json);
        wr_str_free(&out);
    }
}

/* sum((x w)^2) and its gradient, in a scope with an unpleasant name. */
static wr_graph *small_graph(wr *loss, wr *gradient) {
    wr_graph *g = wr_graph_new();
    assert_non_null(g);
    wr_dim B = wr_sym(g, "B", 1, 64, 1);
    wr x = wr_input(g, "x", WR_F32, WR_DIMS(B, wr_n(3)));
    WR_SCOPE (g, "</script>") {
        wr w = wr_param(g, "w", WR_F32, WR_DIMS(wr_n(3)), ((wr_init){WR_INIT_ZERO, 0, 0}));
        *loss = wr_sum_all(wr_square(wr_mul(x, w)));
        wr_grad(*loss, 1, &w, gradient);
    }
    return g;
}

/* The page's data. */
static cJSON *data_of(const wr_str *page) {
    static const char BEGIN[] = "id=\"data\">";
    const char *at = strstr(wr_str_text(page), BEGIN);
    assert_non_null(at);
    at += strlen(BEGIN);
    cJSON *data = cJSON_ParseWithLength(at, (size_t)(strstr(at, "</script>") - at));
    assert_non_null(data);
    return data;
}

static const char *string_at(const cJSON *data, const cJSON *column, int i) {
    int number = cJSON_GetArrayItem(column, i)->valueint;
    return cJSON_GetArrayItem(cJSON_GetObjectItem(data, "strings"), number)->valuestring;
}

static void test_model(void **state) {
    (void)state;
    wr loss, gradient;
    wr_graph *g = small_graph(&loss, &gradient);
    wr_binding b = {.value = {8}};
    wr_html_model m = {.title = "t</title>",
                       .loss = {.g = g, .binding = &b},
                       .inverse = {.absent = "no flow"},
                       .no_plan = "no plan"};
    wr_str page = {0};
    assert_int_equal(wr_html_model_page(&m, &page, NULL), WR_OK);
    const char *title = strstr(wr_str_text(&page), "<title>t&lt;/title></title>");
    assert_non_null(title);
    cJSON *data = data_of(&page);
    assert_string_equal(cJSON_GetObjectItem(data, "inverse")->valuestring, "no flow");
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetObjectItem(data, "sizes"), "B")->valueint, 8);
    const cJSON *graph = cJSON_GetObjectItem(data, "loss");
    const cJSON *name = cJSON_GetObjectItem(graph, "name"), *id = cJSON_GetObjectItem(graph, "id");
    const cJSON *roles = cJSON_GetObjectItem(graph, "role"),
                *nin = cJSON_GetObjectItem(graph, "nin");
    int n = cJSON_GetArraySize(name), weights = 0, derived = 0, operands = 0;
    assert_int_equal(n, wr_node_count(g) - 1);
    for (int i = 0; i < n; i++) {
        weights += strcmp(string_at(data, name, i), "</script>.w") == 0;
        derived += cJSON_GetArrayItem(roles, i)->valueint == WR_GRADIENT;
        uint32_t node = (uint32_t)cJSON_GetArrayItem(id, i)->valueint;
        assert_int_equal(cJSON_GetArrayItem(nin, i)->valueint, wr_node_at(g, node)->n_in);
        operands += wr_node_at(g, node)->n_in;
    }
    assert_int_equal(weights, 1);
    assert_true(derived > 0);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(graph, "in")), operands);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(graph, "flops")), n);
    cJSON_Delete(data);
    /* The same model, the same text. */
    wr_str again = {0};
    assert_int_equal(wr_html_model_page(&m, &again, NULL), WR_OK);
    assert_string_equal(wr_str_text(&page), wr_str_text(&again));
    wr_str_free(&again);
    wr_str_free(&page);
    wr_graph_free(g);
}

static wr_plan *plan_of(const wr_graph *g, const bool *live, wr loss, wr gradient) {
    uint32_t root[] = {loss.id, gradient.id};
    uint32_t *slot = calloc(wr_node_count(g), sizeof *slot);
    wr_binding b = {.value = {8}};
    wr_device *device = wr_device_cpu();
    wr_plan *plan = NULL;
    assert_true(slot != NULL && device != NULL);
    assert_int_equal(wr_plan_new(g, live, 2, root, &b, device, &(wr_slots){slot}, 1, &plan, NULL),
                     WR_OK);
    device->close(device);
    free(slot);
    return plan;
}

/* Buffers and workspaces that live at the peak add up to the planner's figure. */
static void test_plan(void **state) {
    (void)state;
    wr loss, gradient;
    wr_graph *g = small_graph(&loss, &gradient);
    uint32_t root[] = {loss.id, gradient.id};
    bool *live = wr_live_nodes(g, 2, root);
    wr_plan *plan = plan_of(g, live, loss, gradient);
    wr_html_model m = {.title = "plan", .loss = {.g = g, .live = live}, .plan = plan};
    wr_str page = {0};
    assert_int_equal(wr_html_model_page(&m, &page, NULL), WR_OK);
    cJSON *data = data_of(&page);
    const cJSON *p = cJSON_GetObjectItem(data, "plan");
    const cJSON *buffers = cJSON_GetObjectItem(p, "buffers"),
                *steps = cJSON_GetObjectItem(p, "steps");
    assert_int_equal(cJSON_GetArraySize(steps), 8 * plan->n_steps);
    double sum = cJSON_GetArrayItem(steps, 8 * plan->peak_step + 7)->valuedouble;
    for (int i = 0; i < cJSON_GetArraySize(buffers); i += 8) {
        double bytes = cJSON_GetArrayItem(buffers, i + 5)->valuedouble;
        if (cJSON_GetArrayItem(buffers, i + 6)->valueint <= plan->peak_step &&
            cJSON_GetArrayItem(buffers, i + 7)->valueint >= plan->peak_step)
            sum += ceil(bytes / 256) * 256;
    }
    assert_true(sum == (double)plan->live_peak && sum > 0);
    cJSON_Delete(data);
    wr_str_free(&page);
    wr_plan_free(plan);
    free(live);
    wr_graph_free(g);
}

/* Any allocation may fail: an error, and nothing leaks. */
static void test_memory(void **state) {
    (void)state;
    wr loss, gradient;
    wr_graph *g = small_graph(&loss, &gradient);
    uint32_t root[] = {loss.id, gradient.id};
    bool *live = wr_live_nodes(g, 2, root);
    wr_plan *plan = plan_of(g, live, loss, gradient);
    wr_binding b = {.value = {8}};
    wr_html_model m = {.title = "memory",
                       .loss = {.g = g, .live = live, .binding = &b},
                       .inverse = {.g = g},
                       .plan = plan};
    long n = 1;
    for (;; n++) {
        wr_str page = {0};
        wr_error err = {0};
        wr_test_watch_allocations();
        wr_test_fail_allocation(n);
        wr_status status = wr_html_model_page(&m, &page, &err);
        bool failed = wr_test_allocation_failed();
        wr_test_fail_allocation(0);
        wr_str_free(&page);
        assert_int_equal(wr_test_unfreed_allocations(), 0);
        assert_int_equal(status, failed ? WR_ERR_MEMORY : WR_OK);
        if (!failed) break;
    }
    assert_true(n > 30);
    wr_plan_free(plan);
    free(live);
    wr_graph_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_model),   cmocka_unit_test(test_plan),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* browser.c: see browser.h. https://chromedevtools.github.io/devtools-protocol/ */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "browser/browser.h"
#include "graph/base.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE = 60 }; /* seconds for one answer or condition, on a busy machine */

struct browser {
    pid_t pid;
    int to, from; /* pipes; messages end with a NUL */
    wr_str in;    /* bytes read and not yet taken */
    char *session;
    int id;
    wr_str complaints;
};

/* ---- the process ---- */

char *browser_find(void) {
    static const char *const NAMES[] = {"chromium", "chromium-browser", "google-chrome"};
    const char *given = getenv("WEIR_CHROMIUM"), *path = getenv("PATH");
    if (given != NULL && given[0] != '\0') return access(given, X_OK) == 0 ? strdup(given) : NULL;
    for (size_t i = 0; path != NULL && i < sizeof NAMES / sizeof *NAMES; i++)
        for (const char *at = path; *at != '\0';) {
            size_t n = strcspn(at, ":");
            char *file = NULL;
            if (asprintf(&file, "%.*s/%s", (int)n, at, NAMES[i]) < 0) return NULL;
            if (access(file, X_OK) == 0) return file;
            free(file);
            at += n + (at[n] == ':');
        }
    return NULL;
}

/* In the child: Chromium reads file descriptor 3 and writes 4. */
static void run_chromium(const char *program, const char *folder, int in, int out) {
    char profile[4200];
    snprintf(profile, sizeof profile, "--user-data-dir=%s", folder);
    /* Copies high up first, so that neither lies in the other's place. */
    int high_in = fcntl(in, F_DUPFD, 10), high_out = fcntl(out, F_DUPFD, 10);
    int null = open("/dev/null", O_RDWR);
    bool ok = high_in >= 0 && high_out >= 0 && null >= 0 && dup2(high_in, 3) == 3 &&
              dup2(high_out, 4) == 4 && dup2(null, 1) == 1 && dup2(null, 2) == 2;
    close(high_in);
    close(high_out);
    if (ok)
        execl(program, program, "--headless=new", "--no-sandbox", "--disable-gpu",
              "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
              "--disable-component-update", "--disable-extensions", "--force-color-profile=srgb",
              "--hide-scrollbars", "--window-size=1400,900", "--remote-debugging-pipe", profile,
              "about:blank", (char *)NULL);
    _exit(127);
}

static cJSON *call(browser *b, const char *method, cJSON *params);

/* Open a tab and listen to it. */
static void attach(browser *b) {
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "url", "about:blank");
    cJSON *answer = call(b, "Target.createTarget", params);
    const char *target = cJSON_GetStringValue(cJSON_GetObjectItem(answer, "targetId"));
    assert_non_null(target);
    params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "targetId", target);
    cJSON_AddTrueToObject(params, "flatten");
    cJSON_Delete(answer);
    answer = call(b, "Target.attachToTarget", params);
    const char *session = cJSON_GetStringValue(cJSON_GetObjectItem(answer, "sessionId"));
    assert_non_null(session);
    b->session = strdup(session);
    cJSON_Delete(answer);
    static const char *const ENABLE[] = {"Page.enable", "Runtime.enable", "Log.enable",
                                         "Network.enable"};
    for (size_t i = 0; i < 4; i++)
        cJSON_Delete(call(b, ENABLE[i], NULL));
    browser_dark(b, false);
    browser_size(b, 1400, 900);
}

browser *browser_start(const char *program, const char *folder) {
    int to[2], from[2];
    browser *b = calloc(1, sizeof *b);
    if (b == NULL || pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) {
        perror("browser");
        free(b);
        return NULL;
    }
    signal(SIGPIPE, SIG_IGN);
    b->to = to[1];
    b->from = from[0];
    b->pid = fork();
    if (b->pid == 0) run_chromium(program, folder, to[0], from[1]);
    close(to[0]);
    close(from[1]);
    if (b->pid < 0) {
        perror("browser");
        free(b);
        return NULL;
    }
    attach(b);
    return b;
}

void browser_stop(browser *b) {
    if (b == NULL) return;
    close(b->to); /* Chromium ends when its pipe does */
    close(b->from);
    bool ended = false;
    for (double start = wr_now(); !ended && wr_now() - start < PATIENCE;) {
        ended = waitpid(b->pid, NULL, WNOHANG) == b->pid;
        if (!ended) nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    if (!ended) {
        kill(b->pid, SIGKILL);
        waitpid(b->pid, NULL, 0);
    }
    wr_str_free(&b->in);
    wr_str_free(&b->complaints);
    free(b->session);
    free(b);
}

/* ---- messages ---- */

static void send_text(browser *b, const char *text) {
    size_t left = strlen(text) + 1; /* with its NUL */
    while (left > 0) {
        ssize_t n = write(b->to, text, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) fail_msg("the browser does not listen: %s", strerror(errno));
        text += n;
        left -= (size_t)n;
    }
}

/* The next whole message, or NULL when none came until `deadline`. */
static cJSON *receive(browser *b, double deadline) {
    for (;;) {
        size_t n = b->in.len == 0 ? 0 : strlen(b->in.text);
        if (n < b->in.len) { /* a NUL that was sent, not the string's own */
            cJSON *message = cJSON_Parse(b->in.text);
            memmove(b->in.text, b->in.text + n + 1, b->in.len - n); /* with the last NUL */
            b->in.len -= n + 1;
            return message;
        }
        double left = deadline - wr_now();
        struct pollfd p = {.fd = b->from, .events = POLLIN};
        if (left <= 0 || (poll(&p, 1, (int)(left * 1000) + 1) < 0 && errno != EINTR)) return NULL;
        if (!(p.revents & (POLLIN | POLLHUP))) continue;
        char bytes[65536];
        ssize_t got = read(b->from, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) fail_msg("the browser ended");
        wr_str_bytes(&b->in, bytes, (size_t)got);
    }
}

static void complain(browser *b, const char *kind, const cJSON *params) {
    char *text = cJSON_PrintUnformatted(params);
    wr_str_add(&b->complaints, "%s: %.1000s\n", kind, text == NULL ? "" : text);
    cJSON_free(text);
}

/* Note what a page should not do. */
static void take_event(browser *b, const cJSON *message) {
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItem(message, "method"));
    const cJSON *params = cJSON_GetObjectItem(message, "params");
    if (method == NULL) return;
    if (strcmp(method, "Runtime.exceptionThrown") == 0) complain(b, "exception", params);
    if (strcmp(method, "Log.entryAdded") == 0) complain(b, "log", params);
    if (strcmp(method, "Runtime.consoleAPICalled") == 0) complain(b, "console", params);
    if (strcmp(method, "Page.javascriptDialogOpening") == 0) complain(b, "dialog", params);
    if (strcmp(method, "Network.requestWillBeSent") == 0) {
        const cJSON *request = cJSON_GetObjectItem(params, "request");
        const char *url = cJSON_GetStringValue(cJSON_GetObjectItem(request, "url"));
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItem(params, "type"));
        bool document = type != NULL && strcmp(type, "Document") == 0;
        bool inside = url != NULL && strncmp(url, "data:", 5) == 0;
        if (!document && !inside) complain(b, "request", params);
    }
}

/* Call a method and wait for its result. Takes `params`. */
static cJSON *call(browser *b, const char *method, cJSON *params) {
    cJSON *message = cJSON_CreateObject();
    int id = ++b->id;
    cJSON_AddNumberToObject(message, "id", id);
    cJSON_AddStringToObject(message, "method", method);
    if (b->session != NULL) cJSON_AddStringToObject(message, "sessionId", b->session);
    cJSON_AddItemToObject(message, "params", params == NULL ? cJSON_CreateObject() : params);
    char *text = cJSON_PrintUnformatted(message);
    assert_non_null(text);
    send_text(b, text);
    cJSON_free(text);
    cJSON_Delete(message);
    for (double deadline = wr_now() + PATIENCE;;) {
        cJSON *answer = receive(b, deadline);
        if (answer == NULL) fail_msg("%s: the browser does not answer", method);
        const cJSON *number = cJSON_GetObjectItem(answer, "id");
        if (!cJSON_IsNumber(number) || number->valueint != id) {
            take_event(b, answer);
            cJSON_Delete(answer);
            continue;
        }
        const cJSON *error = cJSON_GetObjectItem(answer, "error");
        if (error != NULL) fail_msg("%s: %s", method, cJSON_PrintUnformatted(error));
        cJSON *result = cJSON_DetachItemFromObject(answer, "result");
        cJSON_Delete(answer);
        return result;
    }
}

/* ---- pages ---- */

cJSON *browser_value(browser *b, const char *expression) {
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "expression", expression);
    cJSON_AddTrueToObject(params, "returnByValue");
    cJSON_AddTrueToObject(params, "awaitPromise");
    cJSON *answer = call(b, "Runtime.evaluate", params);
    const cJSON *thrown = cJSON_GetObjectItem(answer, "exceptionDetails");
    if (thrown != NULL) fail_msg("%s: %s", expression, cJSON_PrintUnformatted(thrown));
    cJSON *result = cJSON_GetObjectItem(answer, "result");
    cJSON *value = cJSON_DetachItemFromObject(result, "value");
    cJSON_Delete(answer);
    return value == NULL ? cJSON_CreateNull() : value;
}

bool browser_is(browser *b, const char *expression) {
    wr_str s = {0};
    wr_str_add(&s, "Boolean(%s)", expression);
    cJSON *value = browser_value(b, wr_str_text(&s));
    bool is = cJSON_IsTrue(value);
    cJSON_Delete(value);
    wr_str_free(&s);
    return is;
}

double browser_number(browser *b, const char *expression) {
    cJSON *value = browser_value(b, expression);
    if (!cJSON_IsNumber(value)) fail_msg("%s is no number", expression);
    double number = value->valuedouble;
    cJSON_Delete(value);
    return number;
}

char *browser_text(browser *b, const char *expression) {
    cJSON *value = browser_value(b, expression);
    if (!cJSON_IsString(value)) fail_msg("%s is no text", expression);
    char *text = strdup(value->valuestring);
    cJSON_Delete(value);
    assert_non_null(text);
    return text;
}

void browser_wait(browser *b, const char *expression) {
    for (double deadline = wr_now() + PATIENCE; !browser_is(b, expression);) {
        if (wr_now() > deadline) {
            fprintf(stderr, "%s", wr_str_text(&b->complaints));
            fail_msg("waited in vain for: %s", expression);
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
}

void browser_open(browser *b, const char *path, const char *hash) {
    wr_str url = {0};
    wr_str_clear(&b->complaints);
    wr_str_add(&url, "about:blank");
    for (int k = 0; k < 2; k++) { /* another hash alone would not load the page again */
        cJSON *params = cJSON_CreateObject();
        cJSON_AddStringToObject(params, "url", wr_str_text(&url));
        cJSON_Delete(call(b, "Page.navigate", params));
        browser_wait(b, k == 0 ? "location.href === 'about:blank'"
                               : "location.href !== 'about:blank' && "
                                 "document.readyState === 'complete'");
        wr_str_clear(&url);
        wr_str_add(&url, "file://%s%s", path, hash);
    }
    wr_str_free(&url);
}

void browser_no_complaints(browser *b) {
    browser_is(b, "true"); /* events that were on their way have come then */
    if (b->complaints.len > 0) fail_msg("the page complains:\n%s", wr_str_text(&b->complaints));
}

/* ---- pointer and keys ---- */

static void mouse(browser *b, const char *type, double x, double y, int buttons) {
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "type", type);
    cJSON_AddNumberToObject(params, "x", x);
    cJSON_AddNumberToObject(params, "y", y);
    cJSON_AddStringToObject(params, "button", buttons > 0 ? "left" : "none");
    cJSON_AddNumberToObject(params, "clickCount", buttons);
    cJSON_Delete(call(b, "Input.dispatchMouseEvent", params));
}

/* A place of an element on the page; `free_only`: nothing may lie upon it. */
static void find_place(browser *b, const char *element, const double share[2], bool free_only,
                       double place[2]) {
    wr_str s = {0};
    wr_str_add(&s,
               "(() => { const e = %s; if (!e) return 'is not there'; "
               "if (e instanceof HTMLElement) e.scrollIntoView({block: 'nearest'}); "
               "const r = e.getBoundingClientRect(); "
               "const x = r.left + r.width * %g, y = r.top + r.height * %g; "
               "const top = document.elementFromPoint(x, y); "
               "if (%s && !(top && (e.contains(top) || top.contains(e)))) "
               "return `is covered at ${x} ${y} by ${top && top.outerHTML.slice(0, 200)}`; "
               "return [x, y]; })()",
               element, share[0], share[1], free_only ? "true" : "false");
    cJSON *value = browser_value(b, wr_str_text(&s));
    if (!cJSON_IsArray(value))
        fail_msg("%s %s", element,
                 cJSON_IsString(value) ? value->valuestring : "has no place on the page");
    for (int k = 0; k < 2; k++)
        place[k] = cJSON_GetArrayItem(value, k)->valuedouble;
    cJSON_Delete(value);
    wr_str_free(&s);
}

void browser_click(browser *b, const char *element) {
    double at[2];
    find_place(b, element, (const double[]){0.5, 0.5}, true, at);
    mouse(b, "mouseMoved", at[0], at[1], 0);
    mouse(b, "mousePressed", at[0], at[1], 1);
    mouse(b, "mouseReleased", at[0], at[1], 1);
}

void browser_point(browser *b, const char *element, double x, double y) {
    double at[2];
    find_place(b, element, (const double[]){x, y}, false, at);
    mouse(b, "mouseMoved", at[0], at[1], 0);
}

void browser_key(browser *b, const char *key) {
    for (int k = 0; k < 2; k++) {
        cJSON *params = cJSON_CreateObject();
        cJSON_AddStringToObject(params, "type", k == 0 ? "keyDown" : "keyUp");
        cJSON_AddStringToObject(params, "key", key);
        if (strlen(key) == 1) cJSON_AddStringToObject(params, "text", key);
        cJSON_Delete(call(b, "Input.dispatchKeyEvent", params));
    }
}

void browser_type(browser *b, const char *text) {
    cJSON *params = cJSON_CreateObject();
    cJSON_AddStringToObject(params, "text", text);
    cJSON_Delete(call(b, "Input.insertText", params));
}

/* ---- looks ---- */

void browser_dark(browser *b, bool dark) {
    cJSON *params = cJSON_CreateObject();
    cJSON *features = cJSON_AddArrayToObject(params, "features");
    cJSON *feature = cJSON_CreateObject();
    cJSON_AddStringToObject(feature, "name", "prefers-color-scheme");
    cJSON_AddStringToObject(feature, "value", dark ? "dark" : "light");
    cJSON_AddItemToArray(features, feature);
    cJSON_Delete(call(b, "Emulation.setEmulatedMedia", params));
}

void browser_size(browser *b, int width, int height) {
    cJSON *params = cJSON_CreateObject();
    cJSON_AddNumberToObject(params, "width", width);
    cJSON_AddNumberToObject(params, "height", height);
    cJSON_AddNumberToObject(params, "deviceScaleFactor", 1);
    cJSON_AddFalseToObject(params, "mobile");
    cJSON_Delete(call(b, "Emulation.setDeviceMetricsOverride", params));
}

/* The value of a base64 digit; -1 for others. */
static int digit(char c) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == '\0' ? NULL : strchr(DIGITS, c);
    return at == NULL ? -1 : (int)(at - DIGITS);
}

void browser_screenshot(browser *b, const char *path) {
    cJSON *answer = call(b, "Page.captureScreenshot", NULL);
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(answer, "data"));
    assert_non_null(text);
    wr_str png = {0};
    uint32_t bits = 0;
    int n = 0;
    for (; digit(*text) >= 0; text++) {
        bits = bits << 6 | (uint32_t)digit(*text);
        n += 6;
        if (n < 8) continue;
        n -= 8;
        unsigned char byte = (unsigned char)(bits >> n);
        wr_str_bytes(&png, &byte, 1);
    }
    wr_error err = {0};
    wr_status status = wr_file_replace(path, wr_str_text(&png), png.len, &err);
    if (status != WR_OK) fail_msg("%s", err.text);
    wr_str_free(&png);
    cJSON_Delete(answer);
}

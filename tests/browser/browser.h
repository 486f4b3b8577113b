/* browser.h: a headless Chromium that a test drives: its DevTools protocol over two pipes.
 *
 * Everything waits for a condition, never for a time. A failure ends the test with cmocka's fail
 * messages, so that callers need no checks. */
#ifndef WEIR_TESTS_BROWSER_H
#define WEIR_TESTS_BROWSER_H

#include <cJSON.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct browser browser;

/* The program: $WEIR_CHROMIUM, or chromium in the PATH; NULL when there is none. Free it. */
char *browser_find(void);

/* Start it with a profile in `folder`; the window is 1400 x 900. NULL, with the reason on stderr.
 */
browser *browser_start(const char *program, const char *folder);
/* End it. Its exit is waited for. */
void browser_stop(browser *b);

/* Open a file and wait until the page has run. Forgets complaints about the page before. */
void browser_open(browser *b, const char *path, const char *hash);

/* The value of a JavaScript expression; cJSON_Delete() it. Fails the test on an exception. */
cJSON *browser_value(browser *b, const char *expression);
bool browser_is(browser *b, const char *expression);
double browser_number(browser *b, const char *expression);
char *browser_text(browser *b, const char *expression); /* free() it */

/* Wait until an expression is true; fails the test after a minute, telling the expression. */
void browser_wait(browser *b, const char *expression);

/* Click in the middle of the element that an expression gives, as a user would: fails when it is
 * not there, or something lies upon it. */
void browser_click(browser *b, const char *element);
/* Move the pointer to a place of an element, in shares of its width and height. */
void browser_point(browser *b, const char *element, double x, double y);
/* Press a key ("/", "Escape", "ArrowDown"); type a text where the focus is. */
void browser_key(browser *b, const char *key);
void browser_type(browser *b, const char *text);

void browser_dark(browser *b, bool dark);
void browser_size(browser *b, int width, int height);
void browser_screenshot(browser *b, const char *path);

/* Fails when the page threw, wrote an error or a warning to the console, or asked for anything that
 * is not in the file. */
void browser_no_complaints(browser *b);

#endif

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* NBD URIs as names of archives: which names are, what is shown of them, and which hold anywhere.
 */
#include "source/nbd-uri.h"

#include <unistd.h>

static void
test_is_uri (void)
{
  g_assert_true (vma_nbd_is_uri ("nbd://host"));
  g_assert_true (vma_nbd_is_uri ("nbds+unix:///?socket=s"));
  g_assert_false (vma_nbd_is_uri ("nbd:host"));
  g_assert_false (vma_nbd_is_uri ("./nbd://host"));
  g_assert_false (vma_nbd_is_uri ("a.vma"));
}

static void
check_display (const char *uri, const char *wanted)
{
  g_autofree char *got = vma_nbd_display (uri);

  g_assert_cmpstr (got, ==, wanted);
}

static void
test_display (void)
{
  check_display ("nbd://joe:secret@host/x", "nbd://joe@host/x");
  check_display ("nbd://joe:sec@ret@host/x", "nbd://joe@host/x");
  check_display ("nbds://joe@host/x:y@z", "nbds://joe@host/x:y@z");
  check_display ("a:b@c.vma", "a:b@c.vma");
}

static void
check_absolute (const char *uri, const char *wanted)
{
  g_autofree char *got = vma_nbd_absolute (uri);

  g_assert_cmpstr (got, ==, wanted);
}

static void
test_absolute (void)
{
  g_assert_cmpint (chdir ("/usr/bin"), ==, 0);
  check_absolute ("a.vma", "/usr/bin/a.vma");
  check_absolute ("nbd://host/x", "nbd://host/x");
  check_absolute ("nbd://host/x?", "nbd://host/x?");
  check_absolute ("nbd+unix:///?socket=s", "nbd+unix:///?socket=/usr/bin/s");
  check_absolute ("nbd+unix:///?socket=/s", "nbd+unix:///?socket=/s");
  check_absolute ("nbd+unix:///?socket=%2fs", "nbd+unix:///?socket=%2fs");
  check_absolute ("nbd+unix:///?socket=", "nbd+unix:///?socket=");
  check_absolute ("nbd+unix:///?mysocket=s", "nbd+unix:///?mysocket=s");
  check_absolute ("nbds://host/socket=x?tls-psk-file=k.psk",
                  "nbds://host/socket=x?tls-psk-file=/usr/bin/k.psk");
  check_absolute (
      "nbds+unix://u@/e?tls-certificates=pki&socket=s;tls-psk-file=/k",
      "nbds+unix://u@/e?tls-certificates=/usr/bin/pki&socket=/usr/bin/s;tls-psk-file=/k");
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/nbd-uri/is-uri", test_is_uri);
  g_test_add_func ("/nbd-uri/display", test_display);
  g_test_add_func ("/nbd-uri/absolute", test_absolute);
  return g_test_run ();
}

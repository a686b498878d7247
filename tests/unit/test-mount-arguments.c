/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lists of mount options, and what mount.vmafs makes of a command line.
 */
#include "fuse/option-list.h"
#include "mount-helper/arguments.h"
#include "mount-helper/message.h"

#include <getopt.h>
#include <libmount.h>
#include <string.h>

static void
check_split (const char *list, VmaOptionListFlags flags, const char *wanted)
{
  g_auto (GStrv) options = vma_option_list_split (list, flags);
  g_autofree char *joined = g_strjoinv ("|", options);

  g_assert_cmpstr (joined, ==, wanted);
}

static void
test_split (void)
{
  check_split ("", 0, "");
  check_split (",,", 0, "");
  check_split ("a,b=c,,d", 0, "a|b=c|d");
  check_split ("a=b\\,c,d\\\\,e", 0, "a=b,c|d\\|e");
  check_split ("a\\", 0, "a\\"); /* nothing behind it to escape */
  check_split ("a=\"b,c\"", 0, "a=\"b|c\"");
  check_split ("a=\"b,c\",d", VMA_OPTION_LIST_QUOTES, "a=b,c|d");
  check_split ("a=\\\"b,c", VMA_OPTION_LIST_QUOTES, "a=\"b|c");
  check_split ("a=\"b,c", VMA_OPTION_LIST_QUOTES, "a=b,c");
}

/* What is appended comes out of a split as it went in. */
static void
test_append (void)
{
  static const char *const options[] = { "a", "b=,", "c=\\", "d=\\,\\\\", "e=\"x\"" };
  g_autoptr (GString) list = g_string_new (NULL);

  for (gsize i = 0; i < G_N_ELEMENTS (options); i++)
    vma_option_list_append (list, options[i]);
  g_auto (GStrv) split = vma_option_list_split (list->str, VMA_OPTION_LIST_PLAIN);
  g_assert_cmpuint (g_strv_length (split), ==, G_N_ELEMENTS (options));
  for (gsize i = 0; i < G_N_ELEMENTS (options); i++)
    g_assert_cmpstr (split[i], ==, options[i]);
}

/* Parses "mount.vmafs /a /b -o LIST". */
static gboolean
parse (MountArguments *arguments, const char *list, GError **error)
{
  char *argv[] = { (char *) "mount.vmafs", (char *) "/a", (char *) "/b",
                   (char *) "-o",          (char *) list, NULL };

  optind = 0; /* from the start again */
  return mount_arguments_parse (arguments, 5, argv, error);
}

static void
check_lists (const char *list, const char *driver, const char *guest)
{
  g_autoptr (GError) error = NULL;
  MountArguments arguments;

  g_assert_true (parse (&arguments, list, &error));
  g_assert_no_error (error);
  g_assert_cmpstr (arguments.driver_list, ==, driver);
  g_assert_cmpstr (arguments.guest_list, ==, guest);
  g_assert_cmpint (mount_arguments_want_guest (&arguments), ==, strstr (list, "part=") != NULL);
  mount_arguments_clear (&arguments);
}

static void
test_sorting (void)
{
  check_lists ("rw,defaults,user=x,x-systemd.automount,nofail,_netdev,helper=y", "", "");
  check_lists ("ro,salvage,uid=1,noexec,relatime", "ro,salvage,uid=1,noexec", "");
  check_lists ("part=1,ro,salvage,uid=1,noexec,relatime,subvol=@", "salvage",
               "uid=1,noexec,relatime,subvol=@");
  check_lists ("part=root,allow_other,suid,index_cache=\"/a,b\"", "index_cache=/a\\,b", "");
}

static void
test_flags (void)
{
  MountArguments arguments;

  g_assert_true (parse (&arguments, "part=1,overlay,suid,lv=,fs=auto,dev,nodev", NULL) == FALSE);
  mount_arguments_clear (&arguments);
  g_assert_true (parse (&arguments, "part=1,overlay=/x,suid,fs=auto,dev,nodev", NULL));
  g_assert_true (arguments.writable && arguments.suid && !arguments.dev);
  g_assert_cmpstr (arguments.fs_type, ==, "");
  mount_arguments_clear (&arguments);
  g_assert_true (parse (&arguments, "part=1,overlay,ro", NULL));
  g_assert_false (arguments.writable);
  mount_arguments_clear (&arguments);
}

static void
test_wrong (void)
{
  static const char *const lists[]
      = { "remount", "nosuchoption", "uid=x", "lv=root", "lv=a/b,part=1", "overlay=x,follow" };

  for (gsize i = 0; i < G_N_ELEMENTS (lists); i++) {
    g_autoptr (GError) error = NULL;
    MountArguments arguments;

    g_assert_false (parse (&arguments, lists[i], &error));
    g_assert_error (error, HELPER_ERROR, MNT_EX_USAGE);
    mount_arguments_clear (&arguments);
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/mount-arguments/split", test_split);
  g_test_add_func ("/mount-arguments/append", test_append);
  g_test_add_func ("/mount-arguments/sorting", test_sorting);
  g_test_add_func ("/mount-arguments/flags", test_flags);
  g_test_add_func ("/mount-arguments/wrong", test_wrong);
  return g_test_run ();
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The data side of a live backup, driven by a test: options on the command line, then a command a
 * line on standard input, each answered by "ok ..." or "error MESSAGE".  "failed MESSAGE" may come
 * at any time.
 *
 *   target-driver [OPTION]... NAME:SIZE[:changed]...
 *   begin [URI|-]...   progress   end DISK   vmstate FILE   fail MESSAGE   complete   free
 */
#include "backup/target.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *output, *scratch, *base, *mount, *compress;
static gboolean delta, fail_full, vmstate;
static gint64 scratch_size, timeout, owner = -1;
static char **args;

static const GOptionEntry entries[] = {
  { "output", 0, 0, G_OPTION_ARG_FILENAME, &output, NULL, NULL },
  { "scratch", 0, 0, G_OPTION_ARG_FILENAME, &scratch, NULL, NULL },
  { "scratch-size", 0, 0, G_OPTION_ARG_INT64, &scratch_size, NULL, NULL },
  { "fail-full", 0, 0, G_OPTION_ARG_NONE, &fail_full, NULL, NULL },
  { "base", 0, 0, G_OPTION_ARG_FILENAME, &base, NULL, NULL },
  { "delta", 0, 0, G_OPTION_ARG_NONE, &delta, NULL, NULL },
  { "vmstate", 0, 0, G_OPTION_ARG_NONE, &vmstate, NULL, NULL },
  { "compress", 0, 0, G_OPTION_ARG_STRING, &compress, NULL, NULL },
  { "mount", 0, 0, G_OPTION_ARG_FILENAME, &mount, NULL, NULL },
  { "owner", 0, 0, G_OPTION_ARG_INT64, &owner, NULL, NULL },
  { "timeout", 0, 0, G_OPTION_ARG_INT64, &timeout, NULL, NULL },
  { G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &args, NULL, NULL },
  { 0 },
};

static void
on_failed (gpointer data G_GNUC_UNUSED, const GError *error)
{
  printf ("failed %s\n", error->message);
}

static void
answer (gboolean ok, const GError *error)
{
  if (ok)
    printf ("ok\n");
  else
    printf ("error %s\n", error != NULL ? error->message : "without a reason");
}

static void
print_progress (VmaTarget *target, guint n)
{
  printf ("ok {\"scratch\": %" G_GUINT64_FORMAT ", \"disks\": [",
          vma_target_scratch_bytes (target));
  for (guint i = 0; i < n; i++) {
    VmaTargetProgress p;
    vma_target_get_progress (target, i, &p);
    printf ("%s{\"total\": %" G_GUINT64_FORMAT ", \"transferred\": %" G_GUINT64_FORMAT
            ", \"zero\": %" G_GUINT64_FORMAT ", \"cow_bytes\": %" G_GUINT64_FORMAT
            ", \"cow_requests\": %" G_GUINT64_FORMAT ", \"cow_max_ns\": %" G_GUINT64_FORMAT
            ", \"cow_ns\": %" G_GUINT64_FORMAT ", \"read_through\": %" G_GUINT64_FORMAT "}",
            i > 0 ? ", " : "", p.total, p.transferred, p.zero, p.cow_bytes, p.cow_requests,
            p.cow_max_ns, p.cow_ns, p.read_through_bytes);
  }
  printf ("]}\n");
}

/* FALSE: the end. */
static gboolean
command (VmaTarget *target, guint n, char *line)
{
  g_autoptr (GError) error = NULL;
  g_auto (GStrv) words = g_strsplit (g_strchomp (line), " ", 2);
  const char *rest = words[0] != NULL && words[1] != NULL ? words[1] : "";

  if (g_strcmp0 (words[0], "begin") == 0) {
    g_auto (GStrv) uris = g_strsplit (rest, " ", -1);
    g_autofree const char **given = g_new0 (const char *, n);
    for (guint i = 0; i < n && i < g_strv_length (uris); i++)
      given[i] = strcmp (uris[i], "-") == 0 || *uris[i] == '\0' ? NULL : uris[i];
    vma_target_begin (target, given);
    answer (TRUE, NULL);
  } else if (g_strcmp0 (words[0], "progress") == 0)
    print_progress (target, n);
  else if (g_strcmp0 (words[0], "end") == 0) {
    vma_target_end_read_through (target, (guint) atoi (rest));
    answer (TRUE, NULL);
  } else if (g_strcmp0 (words[0], "vmstate") == 0) {
    int fd = open (rest, O_RDONLY | O_CLOEXEC);
    gboolean ok = vma_target_add_vmstate (target, fd, NULL, &error);
    answer (ok, error);
    close (fd);
  } else if (g_strcmp0 (words[0], "fail") == 0) {
    error = g_error_new (G_IO_ERROR, G_IO_ERROR_FAILED, "%s", rest);
    vma_target_fail (target, error);
    answer (TRUE, NULL);
  } else if (g_strcmp0 (words[0], "complete") == 0) {
    gboolean ok = vma_target_complete (target, NULL, &error);
    answer (ok, error);
  } else if (g_strcmp0 (words[0], "free") == 0)
    return FALSE;
  else
    printf ("error unknown command\n");
  return TRUE;
}

int
main (int argc, char **argv)
{
  g_autoptr (GOptionContext) context = g_option_context_new (NULL);
  g_autoptr (GError) error = NULL;
  char *line = NULL;
  size_t room = 0;

  setvbuf (stdout, NULL, _IOLBF, 0);
  g_option_context_add_main_entries (context, entries, NULL);
  if (!g_option_context_parse (context, &argc, &argv, &error) || args == NULL) {
    fprintf (stderr, "target-driver: %s\n", error != NULL ? error->message : "no disks");
    return 2;
  }
  guint n = g_strv_length (args);
  g_autofree VmaTargetDisk *disks = g_new0 (VmaTargetDisk, n);
  g_autofree gboolean *changed = g_new0 (gboolean, n);
  for (guint i = 0; i < n; i++) {
    g_auto (GStrv) parts = g_strsplit (args[i], ":", 3);
    disks[i].name = g_intern_string (parts[0]);
    disks[i].size = g_ascii_strtoull (parts[1], NULL, 10);
    changed[i] = parts[2] != NULL;
  }
  g_autoptr (GBytes) text = g_bytes_new_static ("cores: 1\n", 9);
  VmaTargetConfig config = { "qemu-server.conf", text };
  VmaTargetOptions options = {
    .output = output,
    .compression = g_strcmp0 (compress, "zstd") == 0 ? VMA_COMPRESS_ZSTD : VMA_COMPRESS_NONE,
    .disks = disks,
    .n_disks = n,
    .configs = &config,
    .n_configs = 1,
    .vmstate = vmstate,
    .scratch = scratch,
    .scratch_size = (guint64) scratch_size,
    .on_full = fail_full ? VMA_SCRATCH_FAIL : VMA_SCRATCH_WAIT,
    .view = mount != NULL,
    .base = base,
    .delta = delta,
    .changed_only = changed,
    .request_timeout = (guint) timeout,
    .allow_other = owner >= 0,
    .owner = (uid_t) owner,
    .failed = on_failed,
  };
  VmaTarget *target = vma_target_new (&options, &error);
  if (target == NULL || !vma_target_serve (target, &error)
      || (mount != NULL && !vma_target_show (target, mount, &error))) {
    answer (FALSE, error);
    g_clear_pointer (&target, vma_target_free);
    return 1;
  }
  for (guint i = 0; i < n; i++)
    printf ("files %s %s\n", vma_target_cow_path (target, i), vma_target_raw_path (target, i));
  answer (TRUE, NULL);
  while (getline (&line, &room, stdin) > 0 && command (target, n, line))
    ;
  vma_target_free (target);
  answer (TRUE, NULL);
  free (line);
  return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmatool index: the saved indexes, which make the second mount of an archive instant, and the
 * checksums of its data.
 */
#include "index/saved.h"
#include "tool/command.h"
#include "tool/interrupt.h"
#include "tool/message.h"
#include "tool/open.h"
#include "tool/options.h"
#include "tool/progress.h"
#include "tool/size.h"
#include "vma/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- for one archive --------------------------------------------------------------------------- */

/* An archive with a place for its index; `path` is that place. */
static VmaArchive *
open_with_place (const char *archive_path, const char *cache, const char **path, GError **error)
{
  /* Its checksums are not used here. */
  const VmaArchiveOptions options = { .cache_dir = cache };
  g_autoptr (VmaArchive) archive = tool_open_with (archive_path, &options, error);

  if (archive == NULL)
    return NULL;
  *path = vma_archive_index_path (archive);
  if (*path != NULL)
    return g_steal_pointer (&archive);
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s: no index can be saved for it",
               archive_path);
  return NULL;
}

static gboolean
build (const char *archive_path, const char *cache, GError **error)
{
  const char *path;
  g_autoptr (VmaArchive) archive = open_with_place (archive_path, cache, &path, error);

  return archive != NULL && tool_build_index (archive, error);
}

static gboolean
rebuild (const char *archive_path, const char *cache, GError **error)
{
  {
    const char *path;
    g_autoptr (VmaArchive) archive = open_with_place (archive_path, cache, &path, error);
    if (archive == NULL)
      return FALSE;
    if (unlink (path) != 0 && errno != ENOENT) {
      vma_set_errno_error (error, errno, "%s: cannot delete", path);
      return FALSE;
    }
  }
  return build (archive_path, cache, error);
}

/* VmaSumsProgress */
static void
on_progress (gpointer data G_GNUC_UNUSED, guint64 done)
{
  tool_progress_set (done);
}

/* Whether there are sums of this archive as it is; a new look at it would only approve of what changed. */
static gboolean
has_sums (const char *path, const VmaSumsKey *key)
{
  VmaSums *sums = vma_sums_verify (path, NULL) ? vma_sums_open (path, key, NULL, NULL, NULL) : NULL;
  gboolean found = sums != NULL;

  g_clear_pointer (&sums, vma_sums_free);
  return found;
}

static gboolean
take_sums (const char *archive_path, const char *cache, gboolean anew, GError **error)
{
  const VmaArchiveOptions options = { .cache_dir = cache };
  g_autoptr (VmaArchive) archive = tool_open_with (archive_path, &options, error);
  VmaSumsKey key;

  if (archive == NULL)
    return FALSE;
  VmaSource *source = vma_archive_source (archive);
  g_autofree char *path = vma_archive_checksums_path (archive, cache, &key);
  if (path == NULL && vma_source_checks_data (source)) {
    tool_error ("note: %s: no checksums taken: it is compressed, and its data are checked against those"
                " of its checkpoints", vma_archive_path (archive));
    return TRUE;
  }
  if (path == NULL)
    return vma_fail (error, VMA_ERROR_INVALID, "%s: no checksums can be saved for it", archive_path);
  if (!anew && has_sums (path, &key))
    return TRUE;
  tool_progress_start ("checksums", key.size);
  gboolean ok = vma_sums_take (path, &key, source, on_progress, NULL, tool_cancellable (), error);
  tool_progress_end ();
  if (!ok)
    vma_archive_prefix_error (archive, error);
  return ok;
}

static gboolean
build_sums (const char *archive_path, const char *cache, GError **error)
{
  return build (archive_path, cache, error) && take_sums (archive_path, cache, FALSE, error);
}

static gboolean
rebuild_sums (const char *archive_path, const char *cache, GError **error)
{
  return rebuild (archive_path, cache, error) && take_sums (archive_path, cache, TRUE, error);
}

/* The place of an archive's checksums; NULL where it has none.  The caller frees it. */
static char *
find_sums (const char *archive_path, const char *cache)
{
  g_autoptr (VmaArchive) archive = tool_open (archive_path, NULL, FALSE, NULL);
  VmaSumsKey key;
  g_autofree char *path
      = archive != NULL ? vma_archive_checksums_path (archive, cache, &key) : NULL;

  return path != NULL && g_file_test (path, G_FILE_TEST_EXISTS) ? g_steal_pointer (&path) : NULL;
}

/* The place of an archive's index, which must be there.  The caller frees it. */
static char *
find (const char *archive_path, const char *cache, GError **error)
{
  const char *path;
  g_autoptr (VmaArchive) archive = open_with_place (archive_path, cache, &path, error);

  if (archive == NULL)
    return NULL;
  if (g_file_test (path, G_FILE_TEST_EXISTS))
    return g_strdup (path);
  g_set_error (error, VMA_ERROR, VMA_ERROR_MISSING, "%s: has no saved index (vmatool index makes one)",
               archive_path);
  return NULL;
}

static gboolean
is_sums (const char *path)
{
  return g_str_has_suffix (path, VMA_SUMS_SUFFIX);
}

static gboolean
print_sums_line (const char *path, GError **error)
{
  VmaSumsInfo info;

  if (!vma_sums_info (path, &info, error)) {
    g_prefix_error (error, "%s: ", path);
    return FALSE;
  }
  g_autofree char *uuid = tool_uuid_text (info.key.uuid);
  g_autofree char *size = tool_format_size (info.file_size);
  g_autofree char *archive_size = tool_format_size (info.key.size);
  printf ("%s: %s, checksums of an archive of %s, uuid %s\n", path, size, archive_size, uuid);
  return TRUE;
}

/* A saved index as a line. */
static gboolean
print_line (const char *path, GError **error)
{
  VmaSavedIndexInfo info;

  if (is_sums (path))
    return print_sums_line (path, error);

  if (!vma_saved_index_info (path, &info, error)) {
    g_prefix_error (error, "%s: ", path);
    return FALSE;
  }
  g_autofree char *uuid = tool_uuid_text (info.key.uuid);
  g_autofree char *size = tool_format_size (info.file_size);
  g_autofree char *archive_size = tool_format_size (info.key.source.size);
  printf ("%s: %s, of an archive of %s, uuid %s\n", path, size, archive_size, uuid);
  return TRUE;
}

static gboolean
show (const char *archive_path, const char *cache, GError **error)
{
  g_autofree char *path = find (archive_path, cache, error);
  g_autofree char *sums = find_sums (archive_path, cache);

  return path != NULL && print_line (path, error) && (sums == NULL || print_line (sums, error));
}

static gboolean
check (const char *path, GError **error)
{
  if (is_sums (path) ? vma_sums_verify (path, error) : vma_saved_index_verify (path, error))
    return TRUE;
  g_prefix_error (error, "%s: ", path);
  return FALSE;
}

static gboolean
verify (const char *archive_path, const char *cache, GError **error)
{
  g_autofree char *path = find (archive_path, cache, error);
  g_autofree char *sums = find_sums (archive_path, cache);

  return path != NULL && check (path, error) && (sums == NULL || check (sums, error));
}

static int
for_each (char **archives, const char *cache,
          gboolean (*action) (const char *archive, const char *cache, GError **error))
{
  int status = TOOL_OK;

  for (guint i = 0; archives[i] != NULL; i++) {
    g_autoptr (GError) error = NULL;
    if (action (archives[i], cache, &error))
      continue;
    status = tool_fail (error, action == show || action == verify ? NULL : TOOL_ADVICE_LIST);
    if (g_error_matches (error, VMA_ERROR, VMA_ERROR_CANCELLED))
      break;
  }
  return status;
}

/* --- for the directory ------------------------------------------------------------------------- */

static gint
compare_paths (gconstpointer a, gconstpointer b)
{
  return strcmp (*(const char *const *) a, *(const char *const *) b);
}

/* Does something with each file of the directory, ordered by name. */
static int
for_all (const char *cache, gboolean (*action) (const char *path, GError **error))
{
  g_autoptr (GError) error = NULL;
  g_autoptr (GDir) entries = g_dir_open (cache, 0, &error);
  g_autoptr (GPtrArray) names = g_ptr_array_new_with_free_func (g_free);
  int status = TOOL_OK;
  const char *name;

  if (entries == NULL) {
    if (g_error_matches (error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
      return TOOL_OK; /* nothing was ever saved */
    tool_error ("%s", error->message);
    return TOOL_FAILED;
  }
  while ((name = g_dir_read_name (entries)) != NULL)
    if (g_str_has_suffix (name, VMA_SAVED_INDEX_SUFFIX) || is_sums (name))
      g_ptr_array_add (names, g_build_filename (cache, name, NULL));
  g_ptr_array_sort (names, compare_paths);
  for (guint i = 0; i < names->len; i++) {
    g_autoptr (GError) wrong = NULL;
    if (!action (g_ptr_array_index (names, i), &wrong))
      status = tool_fail (wrong, NULL);
  }
  return status;
}

static int
prune (const char *cache, const char *max_size)
{
  g_autoptr (GError) error = NULL;
  guint64 limit = VMA_SAVED_INDEX_MAX_BYTES, bytes;
  guint removed;

  if (max_size != NULL && !tool_parse_size (max_size, &limit))
    return tool_usage_error ("index", "--max-size: '%s' is no size", max_size);
  if (!vma_saved_index_prune (cache, limit, &removed, &bytes, &error))
    return tool_fail (error, NULL);
  g_autofree char *size = tool_format_size (bytes);
  printf ("%u saved files removed (%s)\n", removed, size);
  return TOOL_OK;
}

/* --- the command ------------------------------------------------------------------------------- */

typedef enum {
  BUILD,
  SHOW,
  VERIFY,
  REBUILD,
  PRUNE,
  LIST,
  N_ACTIONS,
} Action;

static const char *const action_names[N_ACTIONS]
    = { "build", "show", "verify", "rebuild", "prune", "list" };

static int
run (Action action, char **archives, const char *cache, const char *max_size, gboolean checksums)
{
  gboolean none = archives[0] == NULL;

  if (checksums && action != BUILD && action != REBUILD)
    return tool_usage_error ("index", "--checksums goes with build and rebuild");

  if (max_size != NULL && action != PRUNE)
    return tool_usage_error ("index", "--max-size goes with prune");
  if ((action == PRUNE || action == LIST) && !none)
    return tool_usage_error ("index", "%s takes no archives", action_names[action]);
  if ((action == BUILD || action == SHOW || action == REBUILD) && none)
    return tool_usage_error ("index", "of which archives?");

  switch (action) {
  case BUILD:
    return for_each (archives, cache, checksums ? build_sums : build);
  case SHOW:
    return for_each (archives, cache, show);
  case VERIFY:
    return none ? for_all (cache, check) : for_each (archives, cache, verify);
  case REBUILD:
    return for_each (archives, cache, checksums ? rebuild_sums : rebuild);
  case PRUNE:
    return prune (cache, max_size);
  default:
    return for_all (cache, print_line);
  }
}

/* The action: an option, or the first argument, which is then taken away.  FALSE: more than one. */
static gboolean
choose (const gboolean options[N_ACTIONS], char ***archives, Action *action)
{
  guint n = 0;

  *action = BUILD;
  for (guint i = 0; i < N_ACTIONS; i++)
    if (options[i]) {
      *action = i;
      n++;
    }
  for (guint i = 0; n == 0 && **archives != NULL && i < N_ACTIONS; i++)
    if (strcmp (**archives, action_names[i]) == 0) {
      *action = i;
      ++*archives;
      break;
    }
  return n <= 1;
}

int
tool_index (int argc, char **argv)
{
  g_autofree char *cache_option = NULL, *max_size = NULL;
  gboolean options[N_ACTIONS] = { FALSE }, checksums = FALSE;
  const GOptionEntry entries[] = {
    { "build", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, &options[BUILD], NULL, NULL },
    { "show", 0, 0, G_OPTION_ARG_NONE, &options[SHOW], "Show where it is, and of what", NULL },
    { "verify", 0, 0, G_OPTION_ARG_NONE, &options[VERIFY],
      "Check its checksums; without ARCHIVE those of all", NULL },
    { "rebuild", 0, 0, G_OPTION_ARG_NONE, &options[REBUILD], "Make it anew", NULL },
    { "prune", 0, 0, G_OPTION_ARG_NONE, &options[PRUNE], "Remove those not used for longest", NULL },
    { "max-size", 0, 0, G_OPTION_ARG_FILENAME, &max_size, "With --prune: what may stay (default: 4G)",
      "SIZE" },
    { "list", 0, 0, G_OPTION_ARG_NONE, &options[LIST], "Show all that are saved", NULL },
    { "checksums", 0, 0, G_OPTION_ARG_NONE, &checksums,
      "Also take checksums of all data, which later reads are checked against", NULL },
    TOOL_INDEX_CACHE_OPTION (&cache_option),
    { NULL, 0, 0, 0, NULL, NULL, NULL },
  };
  const ToolUsage usage = {
    .arguments = "[build|show|verify|rebuild|prune|list] [ARCHIVE...]",
    .about = "Builds and saves the index of each archive, so that its next mount is instant; or\n"
             "what the word before the archives, or one of these options, says.",
    .entries = entries, .min = 0, .max = TOOL_ANY,
  };
  int status;
  Action action;
  g_auto (GStrv) arguments = tool_parse (&usage, argc, argv, &status);

  if (arguments == NULL)
    return status;
  char **archives = arguments;
  if (!choose (options, &archives, &action))
    return tool_usage_error (argv[0], "only one of --show, --verify, --rebuild, --prune, --list");
  g_autofree char *cache = tool_cache_dir (cache_option);
  if (cache == NULL)
    return tool_usage_error (argv[0], "--index-cache=none leaves nothing to do");
  tool_interrupt_start ();
  return run (action, archives, cache, max_size, checksums);
}

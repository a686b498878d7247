/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/writer-options.h"

#include "vma/error.h"

#include <string.h>
#include <uuid/uuid.h>

#define MAX_THREADS 64

/* FALSE, with a mistake in the command line. */
#define invalid(error, ...)                                                                        \
  (g_set_error ((error), VMA_ERROR, VMA_ERROR_INVALID, __VA_ARGS__), FALSE)

/* "zstd", "zstd:19", "lz4:9", "none".  The writer knows which levels there are. */
static gboolean
parse_compression (const char *text, VmaWriterOptions *options)
{
  g_auto (GStrv) parts = g_strsplit (text, ":", 2);
  gint64 level;

  if (g_strcmp0 (parts[0], "zstd") == 0)
    options->compression = VMA_COMPRESS_ZSTD;
  else if (g_strcmp0 (parts[0], "lz4") == 0)
    options->compression = VMA_COMPRESS_LZ4;
  else if (strcmp (text, "none") == 0)
    options->compression = VMA_COMPRESS_NONE;
  else
    return FALSE;
  if (parts[1] == NULL)
    return TRUE;
  if (!g_ascii_string_to_signed (parts[1], 10, G_MININT, G_MAXINT, &level, NULL))
    return FALSE;
  options->level = (int) level;
  return TRUE;
}

static gboolean
is_file (const char *target)
{
  return strcmp (target, "-") != 0 && !g_str_has_prefix (target, "fd:")
         && !g_str_has_prefix (target, "exec:");
}

/* The compression that a file's name promises.  FALSE where it is one we do not have. */
static gboolean
compression_of_name (const char *target, VmaWriterOptions *options)
{
  if (!is_file (target))
    return TRUE;
  if (g_str_has_suffix (target, ".zst"))
    options->compression = VMA_COMPRESS_ZSTD;
  else if (g_str_has_suffix (target, ".lz4"))
    options->compression = VMA_COMPRESS_LZ4;
  else
    return !g_str_has_suffix (target, ".gz") && !g_str_has_suffix (target, ".lzo");
  return TRUE;
}

gboolean
tool_writer_options (const ToolWriterArguments *arguments, const char *target,
                     guint8 uuid[VMA_UUID_SIZE], VmaWriterOptions *options, GError **error)
{
  if (arguments->compress != NULL) {
    if (!parse_compression (arguments->compress, options))
      return invalid (error, "--compress is zstd[:LEVEL], lz4[:LEVEL] or none, not '%s'",
                      arguments->compress);
  } else if (!compression_of_name (target, options))
    return invalid (error,
                    "%s: use --compress, or 'exec:gzip >FILE' and the like for others than zstd "
                    "and lz4",
                    target);
  if (arguments->threads < 0 || arguments->threads > MAX_THREADS)
    return invalid (error, "--threads is 1..%d", MAX_THREADS);
  if (arguments->slots != 0 && arguments->slots != 58 && arguments->slots != 59)
    return invalid (error, "--slots is 58 or 59");
  options->threads = (guint) arguments->threads;
  options->slots = (guint) arguments->slots;
  if (arguments->uuid != NULL) {
    if (uuid_parse (arguments->uuid, uuid) != 0)
      return invalid (error, "--uuid: '%s' is none", arguments->uuid);
    options->uuid = uuid;
  }
  if (arguments->ctime != NULL
      && !g_ascii_string_to_signed (arguments->ctime, 10, 0, G_MAXINT64, &options->ctime, NULL))
    return invalid (error, "--ctime: '%s' are no seconds since 1970", arguments->ctime);
  return TRUE;
}

void
tool_writer_arguments_clear (ToolWriterArguments *arguments)
{
  g_free (arguments->compress);
  g_free (arguments->uuid);
  g_free (arguments->ctime);
}

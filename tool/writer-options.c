/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/writer-options.h"

#include "vma/error.h"

#include <string.h>
#include <uuid/uuid.h>

#define MAX_THREADS 64

static gboolean
invalid (GError **error, const char *option, const char *value, const char *expected)
{
  g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "%s %s: %s is expected", option, value, expected);
  return FALSE;
}

static gboolean
parse_compress (const char *text, VmaWriterOptions *options, GError **error)
{
  static const struct {
    const char *name;
    VmaCompression kind;
    gint64 min, max;
  } kinds[] = {
    { "none", VMA_COMPRESS_NONE, 0, 0 },
    { "zstd", VMA_COMPRESS_ZSTD, -7, 22 },
    { "lz4", VMA_COMPRESS_LZ4, 0, 12 },
  };
  const char *colon = strchr (text, ':');
  gsize length = colon != NULL ? (gsize) (colon - text) : strlen (text);

  for (gsize i = 0; i < G_N_ELEMENTS (kinds); i++) {
    gint64 level = 0;
    if (strlen (kinds[i].name) != length || strncmp (kinds[i].name, text, length) != 0)
      continue;
    if (colon != NULL
        && !g_ascii_string_to_signed (colon + 1, 10, kinds[i].min, kinds[i].max, &level, NULL))
      break;
    options->compression = kinds[i].kind;
    options->level = (int) level;
    return TRUE;
  }
  return invalid (error, "--compress", text, "none, zstd[:LEVEL] or lz4[:LEVEL]");
}

/* What a target's name promises. */
static VmaCompression
compression_of_name (const char *target)
{
  if (g_str_has_suffix (target, ".zst"))
    return VMA_COMPRESS_ZSTD;
  return g_str_has_suffix (target, ".lz4") ? VMA_COMPRESS_LZ4 : VMA_COMPRESS_NONE;
}

gboolean
tool_writer_options (const ToolWriterArguments *arguments, const char *target,
                     guint8 uuid[VMA_UUID_SIZE], VmaWriterOptions *options, GError **error)
{
  options->compression = compression_of_name (target);
  if (arguments->compress != NULL && !parse_compress (arguments->compress, options, error))
    return FALSE;
  if (arguments->threads < 0 || arguments->threads > MAX_THREADS) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "--threads is from 1 to %d", MAX_THREADS);
    return FALSE;
  }
  if (arguments->slots < 0 || arguments->slots > (int) VMA_EXTENT_SLOTS) {
    g_set_error (error, VMA_ERROR, VMA_ERROR_INVALID, "--slots is from 1 to %u", VMA_EXTENT_SLOTS);
    return FALSE;
  }
  options->threads = (guint) arguments->threads;
  options->slots = (guint) arguments->slots;
  if (arguments->uuid != NULL) {
    if (uuid_parse (arguments->uuid, uuid) != 0)
      return invalid (error, "--uuid", arguments->uuid, "a uuid");
    options->uuid = uuid;
  }
  if (arguments->ctime != NULL
      && !g_ascii_string_to_signed (arguments->ctime, 10, 0, G_MAXINT64, &options->ctime, NULL))
    return invalid (error, "--ctime", arguments->ctime, "a number of seconds since the epoch");
  return TRUE;
}

void
tool_writer_arguments_clear (ToolWriterArguments *arguments)
{
  g_free (arguments->compress);
  g_free (arguments->uuid);
  g_free (arguments->ctime);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of every command that writes an archive: --compress, --threads, --slots, --uuid,
 * --ctime.
 */
#pragma once

#include "writer/writer.h"

/* What the command line said, as text; the caller frees the strings. */
typedef struct {
  char *compress, *uuid, *ctime;
  int threads, slots;
} ToolWriterArguments;

#define TOOL_WRITER_OPTIONS(arguments)                                                             \
  { "compress", 0, 0, G_OPTION_ARG_FILENAME, &(arguments)->compress,                               \
    "How it is compressed (default: by the target's name)", "none|zstd[:LEVEL]|lz4[:LEVEL]" },     \
  { "threads", 0, 0, G_OPTION_ARG_INT, &(arguments)->threads,                                      \
    "Threads that compress (default: one a processor)", "N" },                                     \
  { "slots", 0, 0, G_OPTION_ARG_INT, &(arguments)->slots,                                          \
    "Clusters an extent holds at most (default: 59; the reference writes 58)", "N" },              \
  { "uuid", 0, 0, G_OPTION_ARG_FILENAME, &(arguments)->uuid, "The archive's uuid", "UUID" },       \
  { "ctime", 0, 0, G_OPTION_ARG_FILENAME, &(arguments)->ctime, "The archive's time",               \
    "SECONDS" }

/*
 * Fills *options; `uuid` gets the uuid and must live as long as they do.  Fields that the command line
 * leaves open keep what they are.  FALSE with VMA_ERROR_INVALID: a mistake in the command line.
 */
gboolean tool_writer_options (const ToolWriterArguments *arguments, const char *target,
                              guint8 uuid[VMA_UUID_SIZE], VmaWriterOptions *options,
                              GError **error);

void tool_writer_arguments_clear (ToolWriterArguments *arguments);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (ToolWriterArguments, tool_writer_arguments_clear)

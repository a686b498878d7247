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
    "zstd[:LEVEL], lz4[:LEVEL], none (default: by TARGET's name)", "METHOD" },                     \
  { "threads", 0, 0, G_OPTION_ARG_INT, &(arguments)->threads,                                      \
    "Threads that compress (default: one a processor)", "N" },                                     \
  { "uuid", 0, 0, G_OPTION_ARG_FILENAME, &(arguments)->uuid,                                       \
    "The archive's uuid (default: random)", "UUID" },                                              \
  { "ctime", 0, 0, G_OPTION_ARG_FILENAME, &(arguments)->ctime,                                     \
    "The archive's time, in seconds since 1970", "SECONDS" },                                      \
  { "slots", 0, 0, G_OPTION_ARG_INT, &(arguments)->slots,                                          \
    "Clusters in an extent: 59, or 58 as the reference tool has it", "N" }

/*
 * Fills *options; `uuid` gets the uuid and must live as long as they do.  Fields that the command line
 * leaves open keep what they are.  FALSE with VMA_ERROR_INVALID: a mistake in the command line.
 */
gboolean tool_writer_options (const ToolWriterArguments *arguments, const char *target,
                              guint8 uuid[VMA_UUID_SIZE], VmaWriterOptions *options,
                              GError **error);

void tool_writer_arguments_clear (ToolWriterArguments *arguments);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC (ToolWriterArguments, tool_writer_arguments_clear)

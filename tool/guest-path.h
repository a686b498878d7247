/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ARCHIVE:DISK/PART/PATH: a file of the guest, as ls, cat and cp take it.
 *
 * The archive is the longest part before a ':' that exists; alone it stands for ARCHIVE:/ .  What follows is, in full, a disk, a partition
 * and a path.  PART is "p2" or "2", "whole", "VG/LV", "root", "label=L" or "uuid=U".  Left out may be
 * the partition (the root file system of that disk), the disk (where the partition is called so on one
 * disk only), and both: then the path begins with '/', and is one of the guest's root file system.
 */
#pragma once

#include "guest/ext-files.h"

typedef struct {
  char *cache_option; /* of --index-cache */
  gboolean salvage;
} ToolGuestOptions;

/* The file system that a path leads to, open. */
typedef struct {
  char *prefix; /* "ARCHIVE:DISK/PART", for messages; the path follows */
  VmaArchive *archive;
  VmaGuest *guest;
  VmaExt *ext;
  char *path;   /* in the file system, with a '/' in front */
} ToolGuestPath;

/*
 * Opens it; says so on stderr if the journal was not carried out.  Sets *usage where `text` is none of
 * these at all.
 */
ToolGuestPath *tool_guest_open (const char *text, const ToolGuestOptions *options, gboolean *usage,
                                GError **error);

/*
 * For a command that only reads and prints: confines the program to the archives that are named in
 * these arguments (tool/confine.h).
 */
void tool_guest_confine (char **texts, const ToolGuestOptions *options);

/* What a command does with a path. */
typedef gboolean (*ToolGuestAction) (const ToolGuestPath *path, gpointer data, GError **error);

/* Opens a path, does that, and says what was wrong: an exit status. */
int tool_guest_do (const char *command, const char *text, const ToolGuestOptions *options,
                   ToolGuestAction action, gpointer data);

/* The same with each of several paths, up to one that fails. */
int tool_guest_do_all (const char *command, char **texts, const ToolGuestOptions *options,
                       ToolGuestAction action, gpointer data);

void tool_guest_free (ToolGuestPath *path);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ToolGuestPath, tool_guest_free)

#define TOOL_GUEST_OPTIONS(options)                                                                \
  { "salvage", 0, 0, G_OPTION_ARG_NONE, &(options)->salvage,                                       \
    "Read what can be read of a damaged archive", NULL },                                          \
  TOOL_INDEX_CACHE_OPTION (&(options)->cache_option)

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of vmafs, parsed.
 *
 * Owns the table of options.  Parsing has no effect outside the structure, but that errors are
 * returned for the caller to print.  Used by the main thread only.
 */
#pragma once

#include "image/archive.h"
#include "overlay/overlay.h"
#include "sandbox/sandbox.h"

#include <glib.h>
#include <sys/types.h>

typedef enum {
  VMA_MOUNT_SANDBOX_DEFAULT, /* what the kernel has of it */
  VMA_MOUNT_SANDBOX_REQUIRED,
  VMA_MOUNT_SANDBOX_OFF,
} VmaMountSandbox;

typedef struct {
  char *archive;
  char *mountpoint;
  char *cache_dir;  /* NULL: no saved index */
  char *base;       /* what the archive, a delta, lies over */
  char *fuse_options; /* for libfuse's own "-o": escaped, comma-separated */
  gboolean foreground;
  gboolean debug;
  gboolean rw;
  gboolean salvage;
  gboolean direct_io;
  gboolean follow;
  gboolean parts; /* partitions are files too */
  gboolean overlay;   /* disks can be written to */
  char *overlay_file; /* NULL: a temporary one */
  VmaOverlayPrepared scratch; /* a file for it, made beforehand; who opens the overlay takes it */
  VmaMountSandbox sandbox;
  VmaSandboxReport confined; /* what came of that; not parsed, but found out by vma_confine() */
  guint64 cache_size, memory_limit; /* bytes; 0: default */
  gboolean wait; /* for the whole index, before the mount returns */
  gboolean show_version;
  gboolean has_uid, has_gid, has_mode;
  uid_t uid;
  gid_t gid;
  mode_t mode;
  int ready_fd;    /* -1: none */
  guint readahead; /* KiB */
  guint idle;      /* a directory: seconds after which an archive that is not used is closed */
  guint max_open;  /* a directory: archives that may be open at once */
} VmaMountOptions;

/* FALSE and an error fit to follow "vmafs: " where the arguments are wrong (exit status 2). */
gboolean vma_mount_options_parse (VmaMountOptions *options, char **argv, GError **error);
void vma_mount_options_clear (VmaMountOptions *options);

/* How the archive is opened; the strings stay those of `options`. */
VmaArchiveOptions vma_mount_options_archive (const VmaMountOptions *options);

typedef enum {
  VMA_MOUNT_OPTION_UNKNOWN,
  VMA_MOUNT_OPTION_OURS, /* for vmafs itself: "salvage" */
  VMA_MOUNT_OPTION_FUSE, /* for libfuse and the kernel: "noexec" */
} VmaMountOptionKind;

/* Who understands an option.  Its value is not looked at. */
VmaMountOptionKind vma_mount_option_kind (const char *option);

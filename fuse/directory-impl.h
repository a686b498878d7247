/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What directory.c and directory-*.c share.  For them only. */
#pragma once

#include "fuse/directory.h"
#include "fuse/parked.h"
#include "fuse/workers.h"
#include "index/lock.h"

/* An inode number is an entry's serial number, and the number of a node in its tree. */
#define VMA_NODE_BITS 24

typedef enum {
  VMA_MEMBER_CLOSED,
  VMA_MEMBER_OPENING, /* a worker will open it */
  VMA_MEMBER_OPEN,
  VMA_MEMBER_CLOSING,
} VmaMemberState;

typedef struct {
  VmaDirectory *directory;
  gint64 serial;
  char *file;       /* its name in the directory */
  char *name;       /* what it is shown as */
  struct stat st;   /* of the file, when it was last seen */
  gboolean growing; /* still being written: size and time do not count */
  gboolean listed;  /* the file is there, with that content */
  VmaMemberState state;
  VmaMounted *mounted; /* VMA_MEMBER_OPEN */
  char *failure;       /* what was wrong with it when it was open the last time, or NULL */
  GQueue waiting;      /* Waiting *: requests, for it to be open */
} VmaMember;

struct VmaDirectory {
  char *path;
  const VmaMountOptions *options;
  VmaWorkers *workers;
  GCancellable *cancellable;
  pthread_t housekeeper;
  gboolean has_housekeeper;

  pthread_mutex_t scanning; /* held by who looks at the directory */

  pthread_mutex_t lock;          /* of all below, and of the entries */
  pthread_cond_t changed;        /* something was opened, or we stop */
  GHashTable *by_serial;         /* owns the entries */
  GHashTable *by_name, *by_file; /* those that are listed */
  GPtrArray *listed;             /* VmaMember *, in the order of the files' names */
  GPtrArray *open;               /* VmaMember * that are VMA_MEMBER_OPEN */
  guint slots;                   /* taken by what is open, being opened or closed */
  gint64 last_serial;
  gboolean stopped;
  struct stat seen;    /* the directory, at the last look */
  gint64 looked;       /* when that was, monotonic us; 0: has to be done again */
  gint64 looked_real;  /* and real time */
  gboolean unreadable; /* the last look failed */
};

/* Looks at the directory, if need be (directory-scan.c).  FALSE where it cannot be read; logged
 * once. */
gboolean vma_directory_refresh (VmaDirectory *directory, gboolean anyway, GError **error);

/* --- entries (directory-open.c); the caller holds the lock ------------------------------------ */

fuse_ino_t vma_member_ino (const VmaMember *entry);
void vma_member_free (VmaMember *entry);

/* Has it opened, and the requests served that wait for that. */
void vma_member_begin_opening (VmaMember *entry);

/* It is not listed any more: it is forgotten when nobody uses it. */
void vma_member_drop (VmaMember *entry);

/* The thread that closes archives (directory-open.c). */
gboolean vma_directory_start_housekeeper (VmaDirectory *directory, GError **error);

/* --- requests that wait for an entry (directory.c) -------------------------------------------- */

/* Moves them to a list of the caller's, who holds the lock. */
void vma_waiting_take (VmaMember *entry, GQueue *into);

/* Answers all of such a list; the lock is not held.  Each is a user of `mounted` already. */
void vma_waiting_serve (GQueue *queue, VmaMounted *mounted);
void vma_waiting_refuse (GQueue *queue, int errnum);

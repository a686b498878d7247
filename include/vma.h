/* SPDX-License-Identifier: GPL-2.0-or-later */
/**
 * @file vma.h
 * @brief libvma: read and write VMA archives, the backups of virtual machines that Proxmox VE
 * makes.
 *
 * Reading: vma_open() an archive, find a disk with vma_disk() or vma_find_disk(), and
 * vma_disk_read() from any place of it.  The archive may be compressed with zstd, gzip, lzop or
 * lz4.  Where its index is not in the cache, a thread scans it; whatever needs to know what was not
 * scanned yet waits for that.
 *
 * Writing: vma_create(), vma_create_add_config() and vma_create_add_disk(), vma_create_write() for
 * each cluster, vma_create_finish().
 *
 * Errors: functions return #VMA_OK, or one of the other values of #VmaResult, unless their
 * description says otherwise.  vma_message() then has a line for people.  What cannot be read is an
 * error, never zeros.
 *
 * Threads: any function may be called by any number of threads at once, but vma_close(),
 * vma_create_finish() and vma_create_abort() only when no other call with that handle is under way;
 * configs and disks are added by one thread.
 *
 * Signals are blocked in the threads of the library.  Do not fork between vma_open() and
 * vma_close() unless the child only executes another program.
 *
 * Strings are UTF-8 where the archive has it so, and bytes otherwise.  Those that are returned
 * belong to the handle they came from, and live as long.
 */
#ifndef VMA_H
#define VMA_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Marks what the library exports. */
#if defined(__GNUC__)
#define VMA_PUBLIC __attribute__ ((visibility ("default")))
#else
#define VMA_PUBLIC
#endif

/** Bytes of a cluster, the unit in which disks are written. */
#define VMA_CLUSTER 65536

/** What functions return.  The numbers are part of the interface; more may be added. */
typedef enum {
  VMA_OK = 0,            /**< it worked */
  VMA_E_IO = 1,          /**< the system refused to read or write */
  VMA_E_NOT_VMA = 2,     /**< the file is no VMA archive */
  VMA_E_DAMAGED = 3,     /**< the archive is damaged here; #VMA_OPEN_SALVAGE reads the rest */
  VMA_E_HEADER = 4,      /**< the archive's header is damaged, nothing can be read */
  VMA_E_MISSING = 5,     /**< this part of the disk is not in the archive, or cannot be trusted */
  VMA_E_UNSUPPORTED = 6, /**< valid, but the library cannot do it */
  VMA_E_INVALID = 7,     /**< the arguments do not fit */
  VMA_E_CANCELLED = 8,   /**< vma_cancel() was called */
  VMA_E_NO_SPACE = 9,    /**< the medium is full */
  VMA_E_TIMEOUT = 10     /**< the time is over */
} VmaResult;

/** An archive that is open for reading. */
typedef struct VmaHandle VmaHandle;
/** A disk of such an archive; belongs to it. */
typedef struct VmaDisk VmaDisk;
/** An archive that is being written. */
typedef struct VmaCreate VmaCreate;

/** The version of the library, "1.2.3". */
VMA_PUBLIC const char *vma_version (void);

/** What was wrong in this thread's last call that failed: one line, overwritten by the next that
 * fails. */
VMA_PUBLIC const char *vma_message (void);

/** @name Opening
 * @{ */

/** Reads what is sound of a damaged archive, and gives #VMA_E_MISSING for the rest. */
#define VMA_OPEN_SALVAGE 1u
/** The archive is still being written: waits for the rest. */
#define VMA_OPEN_FOLLOW 2u
/** Neither reads nor writes saved indexes. */
#define VMA_OPEN_NO_CACHE 4u
/** Reads the header only, and starts no scan: disks cannot be read, and nothing is waited for. */
#define VMA_OPEN_HEADER 8u

/** How to open; set all to 0 but `struct_size`, or use #VMA_OPEN_OPTIONS_INIT. */
typedef struct {
  size_t struct_size;    /**< sizeof (VmaOpenOptions) */
  unsigned flags;        /**< VMA_OPEN_..., or-ed */
  const char *cache_dir; /**< where indexes are saved; NULL: where vmafs has them */
  uint64_t cache_size;   /**< compressed archives: bytes of decoded data to keep; 0: the default */
  uint64_t memory_limit; /**< compressed archives: bytes one decoder may take; 0: the default */
  /** Takes notes that are no errors, such as of a saved index that is out of date; any thread.  May
   * be NULL. */
  void (*note) (void *data, const char *message);
  void *note_data; /**< for `note` */
} VmaOpenOptions;

/** Initial value of #VmaOpenOptions. */
#define VMA_OPEN_OPTIONS_INIT                                                                      \
  {                                                                                                \
    sizeof (VmaOpenOptions), 0, NULL, 0, 0, NULL, NULL                                             \
  }

/** Opens an archive; `options` may be NULL.  The handle in `*handle` is for vma_close(). */
VMA_PUBLIC VmaResult vma_open (VmaHandle **handle, const char *path, const VmaOpenOptions *options);

/** As vma_open(), of a descriptor's file, which is opened once more: `fd` stays the caller's. */
VMA_PUBLIC VmaResult vma_open_fd (VmaHandle **handle, int fd, const VmaOpenOptions *options);

/** Stops what is under way, and frees all; NULL is ignored. */
VMA_PUBLIC void vma_close (VmaHandle *handle);

/** Ends all waiting, now and from now on, with #VMA_E_CANCELLED. */
VMA_PUBLIC void vma_cancel (VmaHandle *handle);

/** Waits until the whole archive is indexed, `timeout_ms` at most (< 0: for ever).  The error of
 * the scan, where that failed; #VMA_E_TIMEOUT. */
VMA_PUBLIC VmaResult vma_wait (VmaHandle *handle, int timeout_ms);

/** How far the scan is: `*position` of `*size` bytes of the archive; a size of UINT64_MAX is
 * unknown. */
VMA_PUBLIC void vma_progress (VmaHandle *handle, uint64_t *position, uint64_t *size);
/** @} */

/** @name What is in an archive
 * @{ */

/** Its uuid. */
VMA_PUBLIC void vma_uuid (VmaHandle *handle, uint8_t uuid[16]);
/** When it was made, seconds since 1970-01-01 UTC. */
VMA_PUBLIC int64_t vma_ctime (VmaHandle *handle);
/** How it is read: "plain", "zstd", "gzip", "lzop", "lz4", ... */
VMA_PUBLIC const char *vma_kind (VmaHandle *handle);

/** The number of configs. */
VMA_PUBLIC size_t vma_n_configs (VmaHandle *handle);
/** The name of the i-th config, as a file can have it; NULL where there is none. */
VMA_PUBLIC const char *vma_config_name (VmaHandle *handle, size_t i);
/** The bytes of the i-th config, and their number; NULL where there is none. */
VMA_PUBLIC const void *vma_config_data (VmaHandle *handle, size_t i, size_t *size);

/** The number of disks; vmstate, the memory of the guest, counts as one. */
VMA_PUBLIC size_t vma_n_disks (VmaHandle *handle);
/** The i-th disk, NULL where there is none. */
VMA_PUBLIC VmaDisk *vma_disk (VmaHandle *handle, size_t i);
/** A disk by name: "scsi0", "drive-scsi0" or "disk-drive-scsi0.raw".  NULL and a message where
 * there is none, or more than one. */
VMA_PUBLIC VmaDisk *vma_find_disk (VmaHandle *handle, const char *name);
/** @} */

/** @name Disks
 * @{ */

/** Its name in the archive, such as "drive-scsi0". */
VMA_PUBLIC const char *vma_disk_name (VmaDisk *disk);
/** Its name as a file, such as "disk-drive-scsi0.raw"; unique in the archive. */
VMA_PUBLIC const char *vma_disk_file_name (VmaDisk *disk);
/** Whether it is the memory of the guest. */
VMA_PUBLIC int vma_disk_is_vmstate (VmaDisk *disk);

/** Its size in bytes; for vmstate the end of the scan is waited for. */
VMA_PUBLIC VmaResult vma_disk_size (VmaDisk *disk, uint64_t *size);

/** Reads up to `size` bytes at `offset`, less only at the end of the disk: their number, 0 at or
 * behind the end; -1 and the reason in `*result` (may be NULL). */
VMA_PUBLIC ssize_t vma_disk_read (VmaDisk *disk, void *buffer, size_t size, uint64_t offset,
                                  VmaResult *result);

/** What a range of a disk is. */
typedef enum {
  VMA_RANGE_DATA = 0,   /**< stored in the archive */
  VMA_RANGE_ZERO = 1,   /**< zeros that take no space */
  VMA_RANGE_MISSING = 2 /**< cannot be read */
} VmaRangeKind;

/** A range of a disk, all of one kind. */
typedef struct {
  uint64_t start;    /**< first byte */
  uint64_t end;      /**< behind the last byte */
  VmaRangeKind kind; /**< what it is */
} VmaRange;

/** The range that begins at `offset`, which must be inside the disk; the next one may be of the
 * same kind. */
VMA_PUBLIC VmaResult vma_disk_range (VmaDisk *disk, uint64_t offset, VmaRange *range);

/** The first byte at or behind `offset` that is not known to be zero; the disk's size where there
 * is none. */
VMA_PUBLIC VmaResult vma_disk_next_data (VmaDisk *disk, uint64_t offset, uint64_t *found);
/** The first byte at or behind `offset` that is known to be zero; the disk's size where there is
 * none. */
VMA_PUBLIC VmaResult vma_disk_next_hole (VmaDisk *disk, uint64_t offset, uint64_t *found);
/** @} */

/** @name Writing
 * @{ */

/** How to write; set all to 0 but `struct_size` and `ctime`, or use #VMA_CREATE_OPTIONS_INIT. */
typedef struct {
  size_t struct_size;      /**< sizeof (VmaCreateOptions) */
  const uint8_t *uuid;     /**< 16 bytes; NULL: a random one */
  int64_t ctime;           /**< seconds since 1970-01-01 UTC; < 0: now */
  const char *compression; /**< NULL or "none", "zstd", "lz4" */
  int level;               /**< of compression; 0: the default */
  unsigned threads;        /**< that compress; 0: one for each processor */
} VmaCreateOptions;

/** Initial value of #VmaCreateOptions. */
#define VMA_CREATE_OPTIONS_INIT                                                                    \
  {                                                                                                \
    sizeof (VmaCreateOptions), NULL, -1, NULL, 0, 0                                                \
  }

/** Begins an archive: in a file `target` that must not exist, and gets its name when all is done;
 * "-" is standard output, "fd:N" a descriptor, "exec:CMD" the input of a command.  `options` may be
 * NULL.  The handle in `*create` is for vma_create_finish() or vma_create_abort(). */
VMA_PUBLIC VmaResult vma_create (VmaCreate **create, const char *target,
                                 const VmaCreateOptions *options);

/** Adds a config; all configs and disks come before the first write. */
VMA_PUBLIC VmaResult vma_create_add_config (VmaCreate *create, const char *name, const void *data,
                                            size_t size);

/** Adds a disk, whose number goes to `*disk`.  The name is as in the archive: "drive-scsi0";
 * "vmstate" is one of unknown length, whose clusters must come in order. */
VMA_PUBLIC VmaResult vma_create_add_disk (VmaCreate *create, const char *name, uint64_t size,
                                          unsigned *disk);

/** Writes `n` clusters of a disk from cluster `first` on.  `data` are `n` * #VMA_CLUSTER bytes, but
 * for the end of the disk, where they end with it; NULL is zeros.  Each cluster must be written
 * once, in any order, by any thread. */
VMA_PUBLIC VmaResult vma_create_write (VmaCreate *create, unsigned disk, uint64_t first, uint64_t n,
                                       const void *data);

/** Completes the archive, brings it to the medium and gives it its name.  #VMA_E_MISSING where
 * clusters were not written.  Frees the handle, also where it fails; then nothing is left behind.
 */
VMA_PUBLIC VmaResult vma_create_finish (VmaCreate *create);

/** Throws away what was written, and frees the handle; NULL is ignored. */
VMA_PUBLIC void vma_create_abort (VmaCreate *create);
/** @} */

#ifdef __cplusplus
}
#endif

#endif

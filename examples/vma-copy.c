/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An example of libvma: lists an archive, copies a disk of it to a raw file, or writes an archive.
 *
 *   cc vma-copy.c $(pkg-config --cflags --libs libvma) -o vma-copy
 *
 *   vma-copy ARCHIVE                 lists its configs and disks
 *   vma-copy ARCHIVE DISK FILE       copies a disk, holes and all
 *   vma-copy --create ARCHIVE FILE   makes an archive with one disk, drive-scsi0, from a raw file
 */
#include <vma.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
failed (void)
{
  fprintf (stderr, "vma-copy: %s\n", vma_message ());
  return 1;
}

static int
failed_file (const char *path)
{
  fprintf (stderr, "vma-copy: %s: %s\n", path, strerror (errno));
  return 1;
}

static int
list (VmaHandle *handle)
{
  for (size_t i = 0; i < vma_n_configs (handle); i++) {
    size_t size;
    vma_config_data (handle, i, &size);
    printf ("config %s %zu\n", vma_config_name (handle, i), size);
  }
  for (size_t i = 0; i < vma_n_disks (handle); i++) {
    VmaDisk *disk = vma_disk (handle, i);
    uint64_t size;
    if (vma_disk_size (disk, &size) != VMA_OK)
      return failed ();
    printf ("disk %s %" PRIu64 "\n", vma_disk_name (disk), size);
  }
  return 0;
}

/* Copies [start, end) of a disk. */
static int
copy_range (VmaDisk *disk, int fd, uint64_t start, uint64_t end)
{
  static char buffer[1 << 20];

  while (start < end) {
    size_t want = end - start < sizeof buffer ? (size_t) (end - start) : sizeof buffer;
    ssize_t n = vma_disk_read (disk, buffer, want, start, NULL);
    if (n < 0)
      return failed ();
    if (pwrite (fd, buffer, (size_t) n, (off_t) start) != n)
      return failed_file ("the copy");
    start += (uint64_t) n;
  }
  return 0;
}

static int
copy (VmaDisk *disk, const char *path)
{
  uint64_t size, start = 0, end;
  int fd = open (path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int status = 0;

  if (fd < 0)
    return failed_file (path);
  if (vma_disk_size (disk, &size) != VMA_OK)
    status = failed ();
  else if (ftruncate (fd, (off_t) size) != 0)
    status = failed_file (path);
  while (status == 0 && start < size) {
    if (vma_disk_next_data (disk, start, &start) != VMA_OK
        || vma_disk_next_hole (disk, start, &end) != VMA_OK)
      status = failed ();
    else {
      status = copy_range (disk, fd, start, end);
      start = end;
    }
  }
  if (close (fd) != 0 && status == 0)
    status = failed_file (path);
  if (status != 0)
    unlink (path);
  return status;
}

/* Writes the content of a raw file as disk `id`. */
static int
write_disk (VmaCreate *create, unsigned id, int fd)
{
  static char cluster[VMA_CLUSTER];
  ssize_t n;

  for (uint64_t i = 0; (n = pread (fd, cluster, sizeof cluster, (off_t) i * VMA_CLUSTER)) > 0; i++)
    if (vma_create_write (create, id, i, 1, cluster) != VMA_OK)
      return failed ();
  return n == 0 ? 0 : failed_file ("the disk");
}

static int
make (const char *archive, const char *path)
{
  static const char config[] = "scsi0: local:vm-1-disk-0\n";
  VmaCreateOptions options = VMA_CREATE_OPTIONS_INIT;
  VmaCreate *create;
  unsigned id;
  int fd = open (path, O_RDONLY | O_CLOEXEC);

  if (fd < 0)
    return failed_file (path);
  uint64_t size = (uint64_t) lseek (fd, 0, SEEK_END);
  options.compression = "zstd";
  if (vma_create (&create, archive, &options) != VMA_OK) {
    close (fd);
    return failed ();
  }
  if (vma_create_add_config (create, "qemu-server.conf", config, strlen (config)) != VMA_OK
      || vma_create_add_disk (create, "drive-scsi0", size, &id) != VMA_OK) {
    vma_create_abort (create);
    close (fd);
    return failed ();
  }
  int status = write_disk (create, id, fd);
  close (fd);
  if (status != 0)
    vma_create_abort (create);
  else if (vma_create_finish (create) != VMA_OK)
    status = failed ();
  return status;
}

static int
read_archive (int argc, char **argv)
{
  VmaHandle *handle;
  VmaDisk *disk;
  int status;

  if (vma_open (&handle, argv[1], NULL) != VMA_OK)
    return failed ();
  if (argc == 2)
    status = list (handle);
  else if ((disk = vma_find_disk (handle, argv[2])) == NULL)
    status = failed ();
  else
    status = copy (disk, argv[3]);
  vma_close (handle);
  return status;
}

int
main (int argc, char **argv)
{
  if (argc == 4 && strcmp (argv[1], "--create") == 0)
    return make (argv[2], argv[3]);
  if (argc == 2 || argc == 4)
    return read_archive (argc, argv);
  fprintf (stderr, "usage: vma-copy ARCHIVE [DISK FILE] | vma-copy --create ARCHIVE FILE\n");
  return 2;
}

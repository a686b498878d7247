/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "backup/job-impl.h"

#include "index/lock.h"

#include <uuid/uuid.h>

void
vma_job_set_speed (VmaJob *job, guint64 speed)
{
  atomic_store (&job->new_speed, speed);
}

static void
add_progress (VmaTargetProgress *sum, const VmaTargetProgress *one)
{
  sum->total += one->total;
  sum->transferred += one->transferred;
  sum->zero += one->zero;
  sum->cow_bytes += one->cow_bytes;
  sum->cow_requests += one->cow_requests;
  sum->cow_ns += one->cow_ns;
  sum->cow_max_ns = MAX (sum->cow_max_ns, one->cow_max_ns);
  sum->read_through_bytes += one->read_through_bytes;
}

void
vma_job_get_progress (VmaJob *job, VmaTargetProgress *sum)
{
  *sum = (VmaTargetProgress){ 0 };
  VMA_LOCK (&job->lock);
  for (guint i = 0; job->described && i < vma_job_n_disks (job); i++) {
    VmaTargetProgress one;
    vma_target_get_progress (job->target, i, &one);
    add_progress (sum, &one);
  }
}

static JsonNode *
describe_progress (const char *device, const VmaTargetProgress *p)
{
  guint64 mean = p->cow_requests > 0 ? p->cow_ns / p->cow_requests : 0;

  return vma_json_make ("device:s", device, "total:i", (gint64) p->total, "transferred:i",
                        (gint64) p->transferred, "zero:i", (gint64) p->zero, "cow-bytes:i",
                        (gint64) p->cow_bytes, "cow-requests:i", (gint64) p->cow_requests,
                        "cow-mean-ns:i", (gint64) mean, "cow-max-ns:i", (gint64) p->cow_max_ns,
                        "read-through:i", (gint64) p->read_through_bytes, NULL);
}

JsonNode *
vma_job_describe (VmaJob *job)
{
  char uuid[UUID_STR_LEN];
  VmaTargetProgress sum = { 0 };
  JsonNode *devices = vma_json_list (NULL, NULL);

  VMA_LOCK (&job->lock);
  uuid_unparse_lower (job->uuid, uuid);
  for (guint i = 0; job->described && i < vma_job_n_disks (job); i++) {
    VmaTargetProgress one;
    vma_target_get_progress (job->target, i, &one);
    add_progress (&sum, &one);
    json_array_add_element (json_node_get_array (devices),
                            describe_progress (vma_job_disk (job, i)->name, &one));
  }
  JsonNode *node = vma_json_make (
      "id:s", job->options.id, "uuid:s", uuid, "status:s", job->status, "error:s", job->error,
      "target:s", job->options.shown_output, "total:i", (gint64) sum.total, "transferred:i",
      (gint64) sum.transferred, "zero:i", (gint64) sum.zero, "speed:i", (gint64) job->speed,
      "start-time:i", job->start_ns, "end-time:i", job->end_ns, "pause-ns:i", job->pause_ns,
      "devices:o", devices, NULL);
  if (job->described)
    json_object_set_int_member (json_node_get_object (node), "scratch",
                                (gint64) vma_target_scratch_bytes (job->target));
  if (job->options.mount != NULL)
    json_object_set_string_member (json_node_get_object (node), "mount", job->options.shown_mount);
  return node;
}

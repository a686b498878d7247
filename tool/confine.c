/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tool/confine.h"

#include "sandbox/archive.h"
#include "source/sidecar.h"
#include "tool/open.h"

#include <stdatomic.h>
#include <unistd.h>

/*
 * A file for the checkpoints of a compressed archive that has no place in the cache, made
 * beforehand.
 */
static atomic_int spare = -1;

static int
take_spare (gpointer data G_GNUC_UNUSED)
{
  return atomic_exchange (&spare, -1); /* -1: then they are kept in memory */
}

void
tool_confine (const char *const *archives, const char *cache_option)
{
  g_autoptr (VmaSandbox) sandbox = vma_sandbox_new ();
  g_autofree char *cache = tool_cache_dir (cache_option);
  gboolean any = FALSE;
  VmaSandboxReport report;

  for (gsize i = 0; archives[i] != NULL; i++)
    any |= vma_sandbox_allow_archive (sandbox, archives[i]);
  if (cache != NULL && any)
    vma_sandbox_allow_cache (sandbox, cache);
  atomic_store (&spare, vma_sidecar_open_temporary ());
  vma_sidecar_set_temporary (take_spare, NULL);
  /* What was not put into force is no worse than what there was before. */
  vma_sandbox_enter (sandbox, &report, NULL);
}

void
tool_confine_to (const char *archive, const char *cache_option)
{
  const char *const archives[] = { archive, NULL };

  tool_confine (archives, cache_option);
}

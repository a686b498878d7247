/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File names: one harmless path component each, all different. */
#include "vma/names.h"

#include <string.h>

/* vma_header_free() frees what the parser made; this one is made by hand. */
#define TEST_HEADER __attribute__ ((cleanup (header_clear))) VmaHeader *

static VmaHeader *
header_new (void)
{
  VmaHeader *header = g_new0 (VmaHeader, 1);

  header->devices = g_ptr_array_new ();
  header->configs = g_ptr_array_new ();
  return header;
}

static void
add_config (VmaHeader *header, const char *name)
{
  VmaConfig *config = g_new0 (VmaConfig, 1);

  config->slot = header->configs->len;
  config->name = g_strdup (name);
  g_ptr_array_add (header->configs, config);
}

static void
add_device (VmaHeader *header, const char *name)
{
  VmaDevice *device = g_new0 (VmaDevice, 1);

  device->id = (guint8) (header->devices->len + 1);
  device->name = g_strdup (name);
  device->is_vmstate = strcmp (name, VMA_VMSTATE_NAME) == 0;
  header->by_id[device->id] = device;
  g_ptr_array_add (header->devices, device);
}

static void
header_clear (VmaHeader **at)
{
  VmaHeader *header = *at;

  for (guint i = 0; i < header->configs->len; i++) {
    VmaConfig *config = g_ptr_array_index (header->configs, i);
    g_free (config->name);
    g_free (config);
  }
  for (guint i = 0; i < header->devices->len; i++) {
    VmaDevice *device = g_ptr_array_index (header->devices, i);
    g_free (device->name);
    g_free (device);
  }
  g_ptr_array_unref (header->configs);
  g_ptr_array_unref (header->devices);
  g_free (header);
}

static void
check_escape (const char *name, const char *wanted)
{
  g_autofree char *got = vma_name_escape (name);
  g_assert_cmpstr (got, ==, wanted);
}

static void
test_escape (void)
{
  check_escape ("drive-scsi0", "drive-scsi0");
  check_escape ("50%", "50%");
  check_escape ("..", "%2E%2E");
  check_escape (".", "%2E");
  check_escape ("../evil", "..%2Fevil");
  check_escape ("a/%2F", "a%2F%252F");
  check_escape ("new\nline", "new%0Aline");
  check_escape ("\x7f", "%7F");
  check_escape ("\xc3\xa4", "\xc3\xa4");
  check_escape ("\xc3(", "%C3(");
  check_escape ("", "~");
}

static void
test_long (void)
{
  g_autofree char *plain = g_strnfill (200, 'x');
  g_autofree char *longer = g_strnfill (5000, '/');
  g_autofree char *escaped = vma_name_escape (longer);

  check_escape (plain, plain);
  g_assert_cmpuint (strlen (escaped), <=, 201);
  g_assert_true (g_str_has_suffix (escaped, "~"));
}

/* However a header names its parts, the results are components, and no two are alike. */
static void
test_distinct (void)
{
  static const char *const nasty[]
      = { "same",        "same",   "same~2", "same",  "..", "%2E%2E", "disk-a.raw",
          "vmstate.bin", ".vmafs", "a/b",    "a%2Fb", "/",  "\n",     "disk-a~2.raw" };
  TEST_HEADER header = header_new ();
  g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);

  for (guint i = 0; i < G_N_ELEMENTS (nasty); i++)
    add_config (header, nasty[i]);
  add_device (header, "a");
  add_device (header, "a");
  add_device (header, "vmstate");
  g_autoptr (VmaNames) names = vma_names_new (header);

  g_assert_cmpstr (vma_names_device (names, 1), ==, "disk-a.raw");
  g_assert_cmpstr (vma_names_device (names, 2), ==, "disk-a~2.raw");
  g_assert_cmpstr (vma_names_device (names, 3), ==, "vmstate.bin");
  for (guint i = 0; i < header->devices->len + header->configs->len; i++) {
    const char *name = i < header->devices->len
                           ? vma_names_device (names, (guint8) (i + 1))
                           : vma_names_config (names, i - header->devices->len);
    g_assert_null (strchr (name, '/'));
    g_assert_cmpstr (name, !=, "");
    g_assert_cmpstr (name, !=, ".");
    g_assert_cmpstr (name, !=, "..");
    g_assert_cmpstr (name, !=, ".vmafs");
    g_assert_true (g_utf8_validate (name, -1, NULL));
    g_assert_cmpuint (strlen (name), <=, 255);
    g_assert_true (g_hash_table_add (seen, (gpointer) name));
  }
}

static void
test_first_escaped (void)
{
  TEST_HEADER header = header_new ();

  add_device (header, "a");
  add_config (header, "fine.conf");
  {
    g_autoptr (VmaNames) names = vma_names_new (header);
    g_assert_null (vma_names_first_escaped (names));
  }
  add_config (header, "../evil.conf");
  g_autoptr (VmaNames) names = vma_names_new (header);
  g_assert_cmpstr (vma_names_first_escaped (names), ==, "..%2Fevil.conf");
}

/* A name of bytes that are likely to make trouble. */
static char *
random_name (GRand *rand)
{
  static const char *const pieces[]
      = { "/",      ".",        "..",    "%",    "%2F",          "~",
          "~2",     "a",        "disk-", ".raw", "vmstate",      ".bin",
          ".vmafs", "\n",       "\x1b[", "\x7f", "\xc3\xa4",     "\xc3",
          "\xa4",   "\xc2\x9b", "\xc2",  "\xff", "\xe2\x82\xac", "\xed\xa0\x80" };
  GString *name = g_string_new (NULL);

  for (int n = g_rand_int_range (rand, 0, 8); n > 0; n--)
    g_string_append (name, pieces[g_rand_int_range (rand, 0, G_N_ELEMENTS (pieces))]);
  if (g_rand_int_range (rand, 0, 20) == 0) /* long ones, cut in any place */
    for (guint n = name->len == 0 ? 0 : 190 / (guint) name->len; name->len > 0 && n < 400; n += 100)
      while (name->len < 190 + n)
        g_string_append_len (name, name->str, (gssize) MIN (name->len, 97));
  return g_string_free (name, FALSE);
}

static void
check_component (GHashTable *seen, const char *name)
{
  g_assert_cmpstr (name, !=, "");
  g_assert_cmpstr (name, !=, ".");
  g_assert_cmpstr (name, !=, "..");
  g_assert_cmpstr (name, !=, ".vmafs");
  g_assert_cmpuint (strlen (name), <=, 255);
  g_assert_true (g_utf8_validate (name, -1, NULL));
  for (const char *p = name; *p != '\0'; p = g_utf8_next_char (p)) {
    gunichar c = g_utf8_get_char (p);
    g_assert_true (c >= 0x20 && c != '/' && (c < 0x7f || c >= 0xa0));
  }
  g_assert_true (g_hash_table_add (seen, (gpointer) name));
}

static void
test_random (void)
{
  g_autoptr (GRand) rand = g_rand_new_with_seed (1);

  for (guint round = 0; round < 200; round++) {
    TEST_HEADER header = header_new ();
    g_autoptr (GHashTable) seen = g_hash_table_new (g_str_hash, g_str_equal);

    for (int n = g_rand_int_range (rand, 0, 60); n > 0; n--) {
      g_autofree char *name = random_name (rand);
      add_device (header, name);
    }
    for (int n = g_rand_int_range (rand, 0, 60); n > 0; n--) {
      g_autofree char *name = random_name (rand);
      add_config (header, *name == '\0' ? "x" : name);
    }
    g_autoptr (VmaNames) names = vma_names_new (header);
    for (guint i = 0; i < header->devices->len; i++)
      check_component (seen, vma_names_device (names, (guint8) (i + 1)));
    for (guint i = 0; i < header->configs->len; i++)
      check_component (seen, vma_names_config (names, i));
  }
}

int
main (int argc, char **argv)
{
  g_test_init (&argc, &argv, NULL);
  g_test_add_func ("/names/escape", test_escape);
  g_test_add_func ("/names/long", test_long);
  g_test_add_func ("/names/distinct", test_distinct);
  g_test_add_func ("/names/first-escaped", test_first_escaped);
  g_test_add_func ("/names/random", test_random);
  return g_test_run ();
}

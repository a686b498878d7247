# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Certificates for tests, under the names that nbdkit and libnbd look for.

# A folder with an authority, and what it has signed: a server at backup.example.com, and a client.
make_certificates() # FOLDER
{
    mkdir -p "$1"
    make_certificate "$1" ca 'cn = "Tests"' ca cert_signing_key
    make_certificate "$1" server 'cn = "backup.example.com"' 'dns_name = "backup.example.com"' \
        'dns_name = "localhost"' 'dns_name = "*.s3.example.com"' 'dns_name = "s3.example.com"' tls_www_server
    make_certificate "$1" client 'cn = "client"' tls_www_client
}

make_certificate() # FOLDER NAME TEMPLATE-LINE...
{
    local folder=$1 name=$2 how=(--generate-certificate --load-ca-certificate "$1/ca-cert.pem"
        --load-ca-privkey "$1/ca-key.pem")
    [ "$name" != ca ] || how=(--generate-self-signed)
    shift 2
    printf '%s\n' "$@" 'expiration_days = 2' >"$folder/$name.template"
    certtool --generate-privkey --key-type ecdsa --outfile "$folder/$name-key.pem" 2>/dev/null
    certtool "${how[@]}" --load-privkey "$folder/$name-key.pem" --template "$folder/$name.template" \
        --outfile "$folder/$name-cert.pem" 2>/dev/null
    rm "$folder/$name.template"
}

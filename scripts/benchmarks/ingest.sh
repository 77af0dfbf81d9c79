# Rows `ingest` and `disk` of `scripts/bench`: from the mailbox to verified rows. Sourced.
reports=10000

row_ingest() {
    ingest /dev/shm
    pairs take_in copy_out
    ratio_line "10,000 version reports, Dovecot to verified rows" "$(per_second $reports "$ours")" "mbsync to files, FSync no" \
        "$(per_second $reports "$theirs")" 0.6
    shares
}

# What the program says of its own time, in a round that does not count.
shares() {
    MAILFLEET_LOG=debug take_in 2>/dev/null
    local said
    said=$(grep -o 'fetch_ms=[0-9]* open_ms=[0-9]* keep_ms=[0-9]* delete_ms=[0-9]*' "$site/run.log" | tr '= ' '  ' |
        awk '{ f += $2; o += $4; k += $6; d += $8 } END { printf "%.2f s fetching, %.2f s of work on keys and seals, %.2f s in the store (rows and commit), %.2f s deleting", f / 1e3, o / 1e3, k / 1e3, d / 1e3 }')
    note "**Reports.** mbsync copies mails to files; ours fetches them, opens and verifies each, commits, and then deletes it" \
        "from the mailbox. Of one round of $(seconds "$took"), in which these overlap: $said."
}

row_disk() {
    local disk
    disk=$(mktemp -d /var/tmp/bench.XXXXXX)
    chmod 755 "$disk"
    folders+=("$disk")
    ingest "$disk"
    rounds=3 pairs take_in copy_out
    ratio_line "the same on a disk" "$(per_second $reports "$ours")" "mbsync to files, FSync no" "$(per_second $reports "$theirs")" 5
    sed -i 's/^FSync no/FSync yes/' "$site/mbsyncrc"
    rounds=3 pairs take_in copy_out
    ratio_line "the same on a disk" "$(per_second $reports "$ours")" "mbsync to files, which are synced as our rows are" \
        "$(per_second $reports "$theirs")" 5
}

ingest() { # folder: mail server, home and output are there
    folder ingest
    local made=$place
    site=$1/ingest.site
    mkdir -p "$site"
    folders+=("$site")
    mail_servers "$site/lab" --users 1
    crowded_manager "$made" $reports 'b%05d@lab.test'
    enrolled=$made/home pristine=$made/versions
    "$crowd" versions "$made/invites" "$pristine" >/dev/null
    printf 'secret\n' >"$site/password"
    chmod 600 "$site/password"
    set_key "$enrolled/manager.toml" receive "\"imap://manager@lab.test@localhost:$LAB_IMAP_PORT/INBOX\""
    set_key "$enrolled/manager.toml" password_file "\"$site/password\""
    cat >"$site/mbsyncrc" <<RC
FSync no

IMAPAccount lab
Host 127.0.0.1
Port $LAB_IMAP_PORT
User manager@lab.test
Pass secret
SSLType None
AuthMechs LOGIN

IMAPStore far
Account lab

MaildirStore near
Path $site/copies/
Inbox $site/copies/INBOX

Channel c
Far :far:INBOX
Near :near:INBOX
Create Near
Sync PullNew
SyncState *
RC
}

# The mailbox as the mail server has it when all were delivered, for each round anew.
fill() {
    local box=$LAB_MAIL/manager owner
    owner=$(awk -F: '$1 == "manager@lab.test" { print $3 ":" $4 }' "$LAB_DIR/dovecot/users")
    rm -rf "$box"
    mkdir "$box"
    cp -r "$pristine" "$box/Maildir"
    chown -R "$owner" "$box"
    doveadm -c "$LAB_DOVECOT_CONF" index -u manager@lab.test INBOX
}

take_in() {
    fill
    rm -rf "$site/home"
    cp -a "$enrolled" "$site/home"
    timed take_all
    grep -q "$reports mails in" "$site/run.out" || fail "$(cat "$site/run.out" "$site/run.log")"
    local n
    n=$("$bin/mailfleet" --home "$site/home" agent list --json | grep -c '1\.0\.02-0') || true
    ((n == reports)) || fail "$n of $reports versions are in the store"
}

take_all() { "$bin/mailfleet" --home "$site/home" run --once >"$site/run.out" 2>"$site/run.log"; }

copy_out() {
    fill
    rm -rf "$site/copies"
    mkdir "$site/copies"
    timed mbsync -q -c "$site/mbsyncrc" c 2>>"$site/mbsync.log"
    local n
    n=$(find "$site/copies/INBOX/new" "$site/copies/INBOX/cur" -type f -name '*,*' | wc -l)
    ((n == reports)) || fail "mbsync has copied $n: $(tail -3 "$site/mbsync.log")"
}

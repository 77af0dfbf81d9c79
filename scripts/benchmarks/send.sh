# Rows `send` and `bundle` of `scripts/bench`: from the command to the relay that has taken all, and to mailboxes. Sourced.
orders=2000

# Agents `1load@lab.test` and on, which are the recipients that `smtp-source -N` makes up, and their manager.
senders() { # count
    folder senders
    sent=0
    site=$place
    seq -f %gload "$1" >"$site/accounts"
    mail_servers "$site/lab" --users 1 --accounts "$site/accounts"
    crowded_manager "$site" "$1" %dload@lab.test
    toml=$site/home/manager.toml
    set_key "$toml" send "\"smtp://localhost:$LAB_SMTP_PORT\""
}

row_send() {
    senders "$orders"
    local sink=$((20000 + RANDOM % 10000))
    smtp-sink -u postfix "127.0.0.1:$sink" 1000 >"$site/sink.log" 2>&1 &
    pids+=($!)
    set_key "$toml" recipients_per_mail 1
    for sessions in 2 16; do
        set_key "$toml" connections "$sessions"
        port=$LAB_SMTP_PORT
        set_key "$toml" send "\"smtp://localhost:$port\""
        pairs orders_out source_out
        ratio_line "2,000 orders of 2 KB to Postfix, $sessions sessions" "$(per_second $orders "$ours")" smtp-source \
            "$(per_second $orders "$theirs")" 1.0
        port=$sink
        set_key "$toml" send "\"smtp://localhost:$port\""
        pairs orders_out source_out
        ratio_line "the same to smtp-sink, $sessions sessions" "$(per_second $orders "$ours")" smtp-source \
            "$(per_second $orders "$theirs")" 1.0
    done
    note "**Sending.** Ours is the command that asks 2,000 agents for their versions and the pass that mails the orders: each is" \
        "written into the outbox, sealed for its agent, signed, claimed before the relay is asked and noted after it has answered," \
        "in a database that is synced. \`smtp-source -d\` sends one static buffer and writes nothing down."
}

orders_out() {
    timed mail_orders
    settle
}

mail_orders() {
    "$bin/mailfleet" --home "$site/home" query versions --all >"$site/query.out" &&
        "$bin/mailfleet" --home "$site/home" run --once >"$site/run.out" && grep -q "$orders mails out" "$site/run.out"
}

source_out() {
    timed smtp-source -d -N -s "$sessions" -m $orders -l 2048 -f manager@lab.test -t load@lab.test "127.0.0.1:$port"
    settle
}

# What one run leaves in the queue is not the other's to carry.
settle() {
    [[ $port == "$LAB_SMTP_PORT" ]] || return 0
    sent=$((sent + orders))
    await_saved "$sent"
}

row_bundle() {
    local n=200
    senders "$n"
    mkdir "$site/tree"
    head -c 1000000 /dev/urandom >"$site/tree/blob"
    one_module "$site/tree" blob
    "$bin/mailfleet" --home "$site/home" bundle build "$site/tree" -o "$site/blob.mfb" --level 1 >/dev/null
    set_key "$toml" connections 4
    mv "$site/home" "$site/enrolled"
    pairs bundle_out mails_out
    ratio_line "a bundle of 1 MB in 200 mailboxes" "$(seconds "$ours")" "smtp-source, a mail for each" "$(seconds "$theirs")" 5
    note "**Bundle.** One sealed body in mails for 50 agents each, over 4 sessions; theirs is a mail of the same size for each" \
        "mailbox, over as many. Until Dovecot has put the last into its mailbox."
}

one_module() { # folder, file in it: describes a bundle of one module
    printf 'software_version = "1.0.02-0"\nsettle = "10m"\n\n[[module]]\nname = "blob"\nversion = "1"\ndate = "2026-11-21"\n' >"$1/bundle.toml"
    printf 'file = "%s"\npath = "data/blob"\nmode = "0644"\nkind = "data"\n' "$2" >>"$1/bundle.toml"
}

bundle_out() {
    rm -rf "$site/home"
    cp -a "$site/enrolled" "$site/home"
    sent=$((sent + 200))
    timed mail_bundle
}

mail_bundle() {
    "$bin/mailfleet" --home "$site/home" campaign start "$site/blob.mfb" --all --name bench >/dev/null &&
        "$bin/mailfleet" --home "$site/home" run --once >/dev/null && await_saved "$sent"
}

mails_out() {
    sent=$((sent + 200))
    timed mail_blobs
}

mail_blobs() {
    smtp-source -d -N -s 4 -m 200 -l 1400000 -f manager@lab.test -t load@lab.test "127.0.0.1:$LAB_SMTP_PORT" &&
        await_saved "$sent"
}

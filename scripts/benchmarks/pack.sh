# Row `pack` of `scripts/bench`: from a tree of files to something that 100 agents can open. Sourced.

row_pack() {
    folder pack
    site=$place
    crowded_manager "$site" 100 'b%05d@lab.test'
    set_key "$site/home/manager.toml" recipients_per_mail 100
    set_key "$site/home/manager.toml" mail_max_bytes 100000000
    mv "$site/home" "$site/enrolled"
    make_tree "$site/tree"
    for n in $(seq 100); do age-keygen -o "$site/key" 2>/dev/null; sed -n 's/^# public key: //p' "$site/key"; rm "$site/key"; done >"$site/recipients"
    pairs pack_ours pack_theirs
    local sealed
    sealed=$(stat -c %s "$site"/home/bodies/*.body)
    ratio_line "$(du -m --apparent-size -s "$site/tree/files" | column 1) MB packed and sealed for 100 agents" "$(seconds "$ours"), $sealed bytes" \
        "tar, zstd -3 -T2, age" "$(seconds "$theirs"), $(stat -c %s "$site/theirs") bytes" 1.0
    MAILFLEET_LOG=info pack_ours
    note "**Packing.** Ours is three commands, at zstd level 3: \`bundle build\`, which digests each of $(wc -l <"$site/names") files and signs ($(seconds "$built")" \
        "of $(seconds "$took")), \`campaign start\`, and a pass that seals the body and writes the mail, in base64, into a folder. Theirs is one pipe" \
        "over two cores. The default is level 19, which takes longer once and makes each of thousands of mails a fifth smaller."
}

# About 38 MB of programs and 12 MB of text, of this machine's own, and the description of a bundle of them.
make_tree() { # folder
    mkdir -p "$1/files"
    find /usr/bin /usr/sbin /usr/lib/x86_64-linux-gnu -maxdepth 1 -type f -size +4k -size -2000k | LC_ALL=C sort |
        while read -r file; do head -c 4 "$file" | grep -q ELF && echo "$file"; done | take_files 38000000 "$1/files"
    find /usr/share/perl /usr/share/perl5 /usr/lib/python3* -type f \( -name '*.pm' -o -name '*.py' -o -name '*.pl' \) -size +8k | LC_ALL=C sort |
        take_files 12000000 "$1/files"
    ls "$1/files" >"$site/names"
    printf 'software_version = "1.0.02-0"\nsettle = "10m"\n' >"$1/bundle.toml"
    awk '{ printf "\n[[module]]\nname = \"m%d\"\nversion = \"1\"\ndate = \"2026-11-21\"\nfile = \"files/%s\"\npath = \"lib/%s\"\nmode = \"0644\"\nkind = \"data\"\n", NR, $0, $0 }' \
        "$site/names" >>"$1/bundle.toml"
}

take_files() { # bytes, folder: copies files of the list until there are so many bytes
    local left=$1 n=0 file size
    while read -r file; do
        size=$(stat -c %s "$file")
        ((left > size)) || continue
        left=$((left - size)) n=$((n + 1))
        cp "$file" "$2/$(printf %05d "$n")-$(basename "$file" | tr -c 'A-Za-z0-9.\n' _)"
    done
}

pack_ours() {
    rm -rf "$site/home" "$site/out" "$site/tree.mfb"
    cp -a "$site/enrolled" "$site/home"
    timed "$bin/mailfleet" --home "$site/home" bundle build "$site/tree" -o "$site/tree.mfb" --level 3 >/dev/null
    built=$took
    timed seal_ours
    took=$((took + built))
}

seal_ours() {
    "$bin/mailfleet" --home "$site/home" campaign start "$site/tree.mfb" --all --name bench >/dev/null &&
        "$bin/mailfleet" --home "$site/home" run --once >"$site/run.out" && grep -q '1 mail out' "$site/run.out"
}

pack_theirs() { timed pipe_theirs; }
pipe_theirs() { tar -C "$site/tree" -c files | zstd -q -3 -T2 | age -R "$site/recipients" >"$site/theirs"; }

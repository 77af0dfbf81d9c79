# Row `delta` of `scripts/bench`: what is mailed of a program whose older build the agent has. Sourced.

row_delta() {
    folder delta
    local package file head
    while read -r package file; do
        delta_of "$package" "$file"
    done <<'FILES'
openssh-server usr/sbin/sshd
libssl3 usr/lib/x86_64-linux-gnu/libcrypto.so.3
php8.2-cli usr/bin/php8.2
FILES
    note "**Deltas.** Two builds of a program, as Debian has published them. Ours is the bundle's delta, without the signed head that a bundle" \
        "always has (about $head bytes); theirs is the smallest of \`xdelta3 -9\`, \`bsdiff\` and \`zstd -19 --patch-from\`. Memory is the most that a process needs that does nothing but apply it;" \
        "the goal is the size of the older file and 16 MB."
}

# The newest two builds that Debian still has of a file.
delta_of() { # package, file in it
    local versions of=$place/$1 side=(old new) n out least=0 tool bytes name peak base
    mkdir "$of"
    mapfile -t versions < <(apt-cache madison "$1" | awk '{ print $3 }' | sort -uV | tail -2)
    ((${#versions[@]} == 2)) || fail "Debian has one version of $1 alone"
    for n in 0 1; do
        (cd "$of" && apt-get download -qq "$1=${versions[n]}" && dpkg-deb -x ./*.deb "${side[n]}" && rm ./*.deb) 2>"$of/apt.log" ||
            fail "$(cat "$of/apt.log")"
    done
    local old=$of/old/$2 new=$of/new/$2
    out=$("$(dirname "$crowd")/delta" "$old" "$new") || fail "no delta of $2"
    bytes=$(sed -n 's/.* payload \([0-9]*\) .*/\1/p' <<<"$out")
    head=$(($(sed -n 's/.* delta \([0-9]*\) .*/\1/p' <<<"$out") - bytes))
    xdelta3 -9 -e -s "$old" "$new" "$of/xdelta3"
    bsdiff "$old" "$new" "$of/bsdiff"
    zstd -q -19 --patch-from="$old" "$new" -o "$of/zstd" 2>"$of/zstd.log"    # advice on its settings
    for name in xdelta3 bsdiff zstd; do
        n=$(stat -c %s "$of/$name")
        ((least > 0 && least <= n)) || least=$n tool=$name
    done
    ratio=$(awk -v a="$bytes" -v b="$least" 'BEGIN { printf "%.2f", a / b }')
    line "delta of $(basename "$2"), ${versions[0]} to ${versions[1]}" "$bytes bytes" "$tool" "$least bytes" "× $ratio its size" "≤ 1.0" "$(at_least 1.0 "$ratio")"
    peak=$(sed -n 's/.* peak \([0-9]*\) kB.*/\1/p' <<<"$out")
    base=$(($(stat -c %s "$old") / 1024))
    line "most memory for applying it" "$peak kB" "the older file and 16 MB" "$((base + 16384)) kB" "" "no more" "$(at_least "$((base + 16384))" "$peak")"
}

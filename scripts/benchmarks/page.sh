# The page that `scripts/bench` writes: what was measured where, the table, and what each row is. Sourced.

page() {
    cat <<PAGE
# Figures

Made by \`scripts/bench\` in one run; do not edit. A ratio is ours to the tool's, paired within a round, the median of all rounds
with the smallest and the largest in brackets: above 1 ours is faster. Absolute figures are this machine's, whose two cores the mail
servers share with whatever is measured; what holds elsewhere are the ratios.

- $(date -u '+%Y-%m-%d %H:%M UTC'), commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- . ':!BENCHMARKS.md' || echo ' with changes')
- $(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(free -g | awk '/^Mem/ { print $2 }') GiB, Linux $(uname -r), load before: $load
- $(versions)
- $rounds rounds of each pair after one to warm up; mail servers, homes and outputs on tmpfs where the row does not say "disk"

$(table)

$(sed 's/$/\n/' "$dir/notes")

$(cat "$dir/scale")
PAGE
}

versions() {
    local package
    for package in postfix dovecot-core isync zstd age xdelta3 bsdiff zabbix-agent collectd-core rauc swupdate; do
        dpkg-query -W -f '${Package} ${Version}, ' "$package"
    done | sed 's/, $//'
}

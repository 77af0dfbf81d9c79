# What the rows of `scripts/bench` share: tools, mail servers, managers with a crowd of agents, time, and the table. Sourced.
rounds=${MAILFLEET_BENCH_ROUNDS:-5}
labs=() pids=() folders=()

install_tools() {
    local missing=()
    need() { [[ -x /usr/sbin/$1 || -x /usr/bin/$1 ]] || missing+=("$2"); }
    need postfix postfix
    need dovecot dovecot-core
    need zabbix_agentd zabbix-agent
    need collectd collectd-core
    need rauc rauc
    need swupdate swupdate
    need dbus-daemon dbus-daemon
    need mbsync isync
    need age age
    need zstd zstd
    need xdelta3 xdelta3
    need bsdiff bsdiff
    need time time
    ((${#missing[@]})) || return 0
    echo "== installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    apt-get install -y -qq --no-install-recommends "${missing[@]}" dovecot-imapd dovecot-lmtpd dovecot-pop3d >/dev/null
}

# Stops what a row has started, by pid, and removes its files.
rest() {
    local pid lab
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    for lab in "${labs[@]}"; do "$repo/scripts/mail-lab" down "$lab" --purge >/dev/null || true; done
    ((${#folders[@]} == 0)) || rm -rf "${folders[@]}"
    pids=() labs=() folders=()
}

clean() {
    rest
    rm -rf "$dir"
}

folder() { # name: a new folder of the row on tmpfs, its path in $place
    place=$dir/$1
    mkdir "$place"
    folders+=("$place")
}

mail_servers() { # folder, options of mail-lab: its variables are set
    local port=$((20000 + RANDOM % 200 * 100))
    lab=$1
    labs+=("$lab")
    "$repo/scripts/mail-lab" up "$lab" --base "$port" "${@:2}" >/dev/null
    # shellcheck disable=SC1091
    . "$lab/env"
}

saved() { grep -c 'saved mail to' "$lab/log/dovecot.log" || true; }

await_saved() { # count of mails that the mail server has put into mailboxes since its start
    local end=$((SECONDS + 300))
    until (($(saved) >= $1)); do
        ((SECONDS < end)) || fail "$(saved) of $1 mails were delivered"
        sleep 0.02
    done
}

fail() {
    echo "bench: $*" >&2
    exit 1
}

# A manager whose agents are keys alone: it sends into a folder, and reads from one, until its configuration is changed.
crowded_manager() { # folder, count of agents, a printf format of their addresses
    local home=$1/home n
    { echo id,mail,class,site,note,admin
        # shellcheck disable=SC2059
        for n in $(seq "$2"); do printf "B%05d,$3,,,,\n" "$n" "$n"; done; } >"$1/agents.csv"
    mkdir -p "$1/in/new" "$1/in/cur" "$1/in/tmp"
    "$bin/mailfleet" --home "$home" init --address manager@lab.test --send "maildir:$1/out" --receive "maildir:$1/in" >/dev/null
    sed -i '1i mails_per_minute = 100000000\nmails_per_connection = 1000' "$home/manager.toml"
    "$bin/mailfleet" --home "$home" agent import "$1/agents.csv" -o "$1/invites" >/dev/null
    "$crowd" enrol "$1/invites" "$1/in" >/dev/null
    "$bin/mailfleet" --home "$home" run --once >/dev/null
    rm -rf "$1/out"
    n=$("$bin/mailfleet" --home "$home" agent list --json | grep -c '"state": *"enrolled"') || true
    [[ $n == "$2" ]] || fail "only $n of $2 agents are enrolled"
}

set_key() { # file, key, value as in TOML
    sed -i "/^$2 = /d" "$1"
    sed -i "1i $2 = $3" "$1"
}

clock() { echo "${EPOCHREALTIME/[.,]/}"; }    # in microseconds

timed() { # command: how long it took in $took, in microseconds
    local from
    from=$(clock)
    "$@" || fail "$* has failed"
    took=$(($(clock) - from))
}

median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
spread() { sort -n | awk '{ v[NR] = $1 } END { print v[1] "–" v[NR] }'; }
column() { awk -v n="$1" '{ print $n }'; }

# Two commands in turns; the medians in $ours and $theirs (microseconds), the median of theirs/ours in $ratio.
pairs() { # ours, theirs: functions that set $took
    local round a rows=
    for round in $(seq 0 "$rounds"); do
        "$1"
        a=$took
        "$2"
        ((round == 0)) || rows+="$a $took $(awk -v a="$a" -v b="$took" 'BEGIN { printf "%.2f", b / a }')"$'\n'
    done
    ours=$(printf %s "$rows" | column 1 | median)
    theirs=$(printf %s "$rows" | column 2 | median)
    ratio=$(printf %s "$rows" | column 3 | median)
    ratios=$(printf %s "$rows" | column 3 | spread)
}

per_second() { awk -v n="$1" -v us="$2" 'BEGIN { printf "%d/s", n * 1e6 / us + 0.5 }'; }
seconds() { awk -v us="$1" 'BEGIN { printf "%.2f s", us / 1e6 }'; }
at_least() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a >= b) }' && echo met || echo '**not met**'; }

line() { # work | ours | against | its figure | ratio | goal | met
    local IFS='|'
    echo "$*" >>"$dir/lines"
    echo "$*" | sed 's/|/  /g'
}

note() { # text for the page, below the table
    echo "$*" >>"$dir/notes"
    echo "$*"
}

# A ratio of speeds with its goal.
ratio_line() { # work, figure of ours, against, its figure, goal
    line "$1" "$2" "$3" "$4" "× $ratio ($ratios)" "≥ $5" "$(at_least "$ratio" "$5")"
}

table() {
    { echo 'work|ours|against|theirs|ratio (all rounds)|goal|'
        echo ':---|---:|:---|---:|---:|---:|:---'
        cat "$dir/lines"; } | sed 's/^/| /; s/|/ | /g; s/$/ |/; s/ |  |/ | |/g; s/|  */| /g'
}

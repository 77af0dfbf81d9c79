# Row `scale` of `scripts/bench`: what grows with the fleet. Sourced.

row_scale() {
    local n counts=(${MAILFLEET_BENCH_SCALE:-1000 10000 100000})
    local -A figure
    local work=()
    for n in "${counts[@]}"; do scale_of "$n"; done
    {
        echo "**Scale.** Agents with five printers each, whose counters come daily: eight counters and four toners of each. Time and the most memory of one command;" \
            "reports are read from a folder, so that no mail server is in the way."
        echo
        printf '| |'
        printf ' %s agents |' "${counts[@]}"
        printf '\n|:---|'
        printf -- '---:|%.0s' "${counts[@]}"
        echo
        local what
        for what in "${work[@]}"; do
            printf '| %s |' "$what"
            for n in "${counts[@]}"; do printf ' %s |' "${figure[$what/$n]}"; done
            echo
        done
    } >"$dir/scale"
    cat "$dir/scale"
}

# A manager with so many agents, two days of counters, and what people ask it daily.
scale_of() { # count of agents
    local n=$1 home before after
    folder scale
    crowded_manager "$place" "$n" 'b%06d@lab.test'
    home=$place/home
    scaled 'version reports in' "$crowd" versions
    scaled "a day's counters in" "$crowd" counters 1
    before=$(store_bytes "$home")
    scaled "another day's counters in" "$crowd" counters 2
    after=$(store_bytes "$home")
    figured 'store after two days' "$((after / 1000000)) MB"
    figured 'store: more each day, for each agent' "$(((after - before) / n)) bytes"
    measured 'a pass of the daemon with nothing to do' run --once
    measured '`agent list`' agent list
    measured '`report versions`' report versions -o "$place/versions.csv"
    measured '`report devices`' report devices -o "$place/devices.csv"
    measured '`report supplies`' report supplies -o "$place/supplies.csv"
    measured '`report counters`, two days' report counters -o "$place/counters.csv"
    measured '`faults`' faults
    measured '`query versions --all`' query versions --all
    measured 'mailing that query' run --once
    rm -rf "$place"
}

store_bytes() { cat "$1"/store.db* | wc -c; }

figured() { # work, figure: of the count $n
    [[ " ${work[*]/#/|} " == *"|$1 "* ]] || work+=("$1")
    figure[$1/$n]=$2
    printf '%7d  %-45s %s\n' "$n" "$1" "$2"
}

measured() { # work, arguments of the manager's command
    local what=$1 said
    shift
    MAILFLEET_HOME=$home /usr/bin/time -f '%e %M' -o "$place/time" "$bin/mailfleet" "$@" >"$place/said" 2>"$place/err" ||
        fail "$* has failed: $(tail -3 "$place/err")"
    said=$(awk '{ printf "%.2f s, %d MB", $1, $2 / 1024 + 0.5 }' "$place/time")
    figured "$what" "$said"
}

# Mails of the whole crowd, read in one pass.
scaled() { # work, program, its subject and what comes after the folders
    local what=$1
    "$2" "$3" "$place/invites" "$place/in" "${@:4}" >/dev/null
    measured "$what" run --once
    grep -q "^$n mails in" "$place/said" || fail "$(cat "$place/said" "$place/err")"
    # What it has answered.
    rm -rf "$place/out"
}

# Rows `memory` and `wake` of `scripts/bench`: agents as they ship, over IMAPS and SMTPS. Sourced.

# A manager and so many enrolled agents in `agent/N`, none of which runs yet.
site_with() { # count of agents, size limit of mails
    folder agents
    site=$place
    mail_servers "$site/lab" --users "$1" --size "$2"
    printf 'secret\n' >"$site/password"
    chmod 600 "$site/password"
    # shellcheck disable=SC2046  # the words of `login` are meant to split
    manager init --address manager@lab.test $(login manager) >/dev/null
    sed -i '1i poll = "1s"\nmails_per_minute = 100000' "$site/home/manager.toml"
    { echo id,mail,class,site,note,admin
        seq "$1" | awk '{ printf "A%04d,agent%04d@lab.test,,,,\n", $1, $1 }'; } >"$site/agents.csv"
    manager agent import "$site/agents.csv" -o "$site/invites" >/dev/null
    local n
    for n in $(seq "$1"); do
        mkdir -p "$site/agent/$n/root"
        # shellcheck disable=SC2046
        "$bin/mailfleet-agent" --home "$site/agent/$n/home" enrol "$site/invites/$(printf A%04d "$n").invite" \
            --root "$site/agent/$n/root" $(login "$(printf agent%04d "$n")") >/dev/null
        sed -i '1i poll = "1h"' "$site/agent/$n/home/agent.toml"
    done
    await_saved "$1"
    manager run --once >"$site/run.out"
    n=$(manager agent list --json | grep -c '"state": *"enrolled"') || true
    [[ $n == "$1" ]] || fail "only $n of $1 agents are enrolled"
}

manager() { "$bin/mailfleet" --home "$site/home" "$@"; }

login() { printf -- '--send smtps://%s@lab.test@localhost:%s --receive imaps://%s@lab.test@localhost:%s/INBOX --ca %s --password-file %s' \
    "$1" "$LAB_SMTPS_PORT" "$1" "$LAB_IMAPS_PORT" "$LAB_CA" "$site/password"; }

start_agent() { # number
    "$bin/mailfleet-agent" --home "$site/agent/$1/home" --log debug run 2>"$site/agent/$1/log" &
    pids+=($!)
    disown
}

await_line() { # pattern, file, seconds
    local end=$((SECONDS + $3))
    until grep -q "$1" "$2"; do
        ((SECONDS < end)) || fail "no \"$1\" in $2: $(tail -3 "$2")"
        sleep 0.1
    done
}

status_kb() { awk -v f="$2:" '$1 == f { print $2 }' "/proc/$1/status"; }

row_memory() {
    local pid idle most
    site_with 1 26214400
    start_agent 1
    pid=${pids[-1]}
    await_line Resting "$site/agent/1/log" 60
    sleep 10
    idle=$(status_kb "$pid" VmRSS)
    mkdir "$site/tree"
    head -c 200000000 /dev/urandom >"$site/tree/blob"
    one_module "$site/tree" blob
    manager bundle build "$site/tree" -o "$site/blob.mfb" --level 3 >/dev/null
    rm "$site/tree/blob"
    manager campaign start "$site/blob.mfb" --all --name bench >/dev/null
    manager run >"$site/manager.out" 2>"$site/manager.log" &
    pids+=($!)
    await_line 'Install ended well' "$site/agent/1/log" 300
    most=$(status_kb "$pid" VmHWM)
    line "the agent's most memory, bundle of 200 MB" "$most kB" "its memory when it idles" "$idle kB" \
        "+ $(((most - idle) / 1024)) MB" "+ 16 MB" "$(at_least 16384 $((most - idle)))"
    note "**Memory.** Resident memory of the agent's process (VmHWM, VmRSS), over IMAPS; the bundle of 200 MB, which cannot be" \
        "compressed, comes in $(grep -c 'saved mail to' "$lab/log/dovecot.log") mails with all others."
}

row_wake() {
    local n=${MAILFLEET_BENCH_AGENTS:-1000} number began waits=
    site_with "$n" 26214400
    for number in $(seq "$n"); do
        start_agent "$number"
        ((number % 20)) || sleep 1
    done
    for number in $(seq "$n"); do await_line Resting "$site/agent/$number/log" 120; done
    sleep 10
    for number in $(shuf -i "1-$n" -n 21 --random-source=<(yes)); do
        manager query versions --agent "$(printf A%04d "$number")" >/dev/null
        local lines
        lines=$(wc -l <"$site/agent/$number/log")
        began=$(clock)
        manager run --once >/dev/null
        waits+="$(began_after "$began" "$lines" "$site/agent/$number/log")"$'\n'
        sleep 0.5
    done
    local middle
    middle=$(printf %s "$waits" | median)
    line "order mailed → agent begins, $n agents idling" "$(seconds "$middle")" "Dovecot's own wait" "0.50 s" \
        "$(printf %s "$waits" | spread | sed 's/–/ /' | awk '{ printf "%.2f–%.2f s", $1 / 1e6, $2 / 1e6 }')" "< 1 s" "$(at_least 999999 "$middle")"
    note "**Wake.** $n processes, each with an IDLE connection over TLS; 21 of them are asked, one after the other. From the start of" \
        "the manager's pass that mails the order to the agent's first deed for it, by its log. Dovecot tells of a mail half a second late."
}

# From a moment to the first deed that the agent's log has behind so many lines, in microseconds.
began_after() { # microseconds, lines, log
    local end=$((SECONDS + 60)) at
    until at=$(tail -n "+$(($2 + 1))" "$3" | grep -m1 'Doing' | grep -o '20[0-9T:.-]*Z'); do
        ((SECONDS < end)) || fail "an agent was not woken: $3"
        sleep 0.05
    done
    echo $(($(date -d "$at" +%s%N) / 1000 - $1))
}

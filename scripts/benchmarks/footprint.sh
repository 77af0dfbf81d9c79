# Row `footprint` of `scripts/bench`: idle memory and size of the agent, beside other agents. Sourced.
#
# Memory is PSS (each process's fair share of what it shares), summed over an agent's processes, after a minute of
# idling on loopback. Ours polls a real Dovecot over IMAPS every 5 s; the others run their usual idle work.

row_footprint() {
    local seconds=${MAILFLEET_BENCH_SECONDS:-60} port=$((20000 + RANDOM % 10000))
    site_with 1 26214400
    sed -i 's/^poll = .*/poll = "5s"/' "$site/agent/1/home/agent.toml"
    start mailfleet-agent "$bin/mailfleet-agent" --home "$site/agent/1/home" run
    start_others "$port"
    sleep "$seconds"
    others
    note "**Footprint.** PSS (each process's share of what it shares) of all processes of an agent after $seconds s of idling on loopback; ours" \
        "polls a real Dovecot over IMAPS every 5 s. The programs of the others are small because their libraries are not counted; ours" \
        "needs none but libc."
}

start() { # name, command: runs it in the background; its process and those below it are measured
    local name=$1
    shift
    "$@" >"$site/$name.log" 2>&1 &
    pids+=($!)
    echo "$name $!" >>"$site/started"
}

below() { # process: it and all its descendants
    echo "$1"
    local child
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do below "$child"; done
}

sum() { # field of smaps_rollup, process: kB of it and its descendants
    local pid total=0 kb
    for pid in $(below "$2"); do
        kb=$(awk -v f="$1:" '$1 == f { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null || true)
        total=$((total + ${kb:-0}))
    done
    echo "$total"
}

start_others() { # first port
    printf 'LogType=console\nServer=127.0.0.1\nListenPort=%s\nListenIP=127.0.0.1\nHostname=bench\nAllowRoot=1\nPidFile=%s\n' \
        "$1" "$site/zabbix.pid" >"$site/zabbix.conf"
    start zabbix-agent /usr/sbin/zabbix_agentd -f -c "$site/zabbix.conf"

    {
        printf 'Hostname "bench"\nBaseDir "%s"\nPIDFile "%s/collectd.pid"\nInterval 10\n' "$site" "$site"
        printf 'LoadPlugin %s\n' cpu memory df disk interface load csv
        printf '<Plugin csv>\n  DataDir "%s/csv"\n</Plugin>\n' "$site"
    } >"$site/collectd.conf"
    start collectd /usr/sbin/collectd -f -C "$site/collectd.conf"

    # RAUC offers its service on the system's bus: one of our own, that lets everybody own any name.
    cat >"$site/bus.conf" <<BUS
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=$site/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>
BUS
    dbus-daemon --config-file="$site/bus.conf" --nofork >"$site/bus.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 50); do [[ -S $site/bus ]] && break; sleep 0.1; done
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=bench -keyout "$site/key.pem" -out "$site/cert.pem" -days 2 2>/dev/null
    printf '[system]\ncompatible=bench\nbootloader=noop\nstatusfile=%s/rauc.status\n[keyring]\npath=%s/cert.pem\n' "$site" "$site" >"$site/rauc.conf"
    start rauc env DBUS_SYSTEM_BUS_ADDRESS="unix:path=$site/bus" /usr/bin/rauc --conf="$site/rauc.conf" --override-boot-slot=bench service

    printf 'globals: { verbose = false; loglevel = 1; };\n' >"$site/swupdate.cfg"
    start swupdate /usr/bin/swupdate -f "$site/swupdate.cfg" -k "$site/cert.pem" -H bench:1.0 \
        -u "-t DEFAULT -u http://127.0.0.1:$(($1 + 1)) -i bench -p 10"
}

# A line for each of the others; ours is in all of them.
others() {
    local name pid ours mine program theirs
    read -r name mine <"$site/started"
    ours=$(sum Pss "$mine")
    while read -r name pid; do
        case $name in
        mailfleet-agent) continue ;;
        zabbix-agent) program=/usr/sbin/zabbix_agentd ;;
        collectd) program=/usr/sbin/collectd ;;
        *) program=/usr/bin/$name ;;
        esac
        if ! kill -0 "$pid" 2>/dev/null; then
            echo "$name did not run: $(tail -1 "$site/$name.log")"
            continue
        fi
        theirs=$(sum Pss "$pid")
        line "idle memory (PSS); program" "$ours kB; $(program_kb "$bin/mailfleet-agent")" "$name, $(below "$pid" | wc -l) processes" \
            "$theirs kB; $(program_kb "$program")" "× $(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.2f", b / a }')" "" ""
    done <"$site/started"
}

program_kb() { echo "$(($(stat -Lc %s "$1") / 1000)) kB"; }

#!/bin/bash
# A real Ceph cluster for tests: one monitor, one manager, some OSDs and, when
# asked for, radosgw; on loopback, without systemd, all of it in one directory.
#
#   tests/ceph.sh start DIR [OSDS]      start a cluster; DIR/ceph.conf is for clients
#   tests/ceph.sh stop DIR              kill everything of DIR
#   tests/ceph.sh watch DIR             wait for the end of stdin, then stop and remove DIR
#   tests/ceph.sh kill DIR DAEMON       kill -9 one daemon, such as osd.0
#   tests/ceph.sh term DIR DAEMON       let it end by itself
#   tests/ceph.sh up DIR DAEMON         start it again and wait until it serves
#   tests/ceph.sh radosgw DIR NAME PORT [OPTIONS]
#                                       start radosgw as client.NAME on 127.0.0.1:PORT
#
# Environment: STORE=bluestore|memstore, OSD_SIZE (default 4G, a sparse file),
# DEFER=no (see write_conf), AUTH=none|cephx, MON_PORT (default: one that is free).
# With cephx DIR/keyring has the keys of all daemons and of
# client.admin; for one's own user: ceph -c DIR/ceph.conf auth get-or-create.
# A daemon's process id is in DIR/NAME.pid; that it is still ours is decided by
# its command line, so that no other process is hit.
# For one's own use: start a cluster, and let tests use it by HERALD_TEST_CEPH=DIR.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 2 ] || usage
command=$1 dir=$(realpath -m "$2")
shift 2
conf=$dir/ceph.conf

log() { echo "ceph.sh: $*" >&2; }

# free_port prints a port that nobody listens on, below the ephemeral ones and
# above those of which tests give their servers some.
free_port() {
	local port
	while port=$((30000 + RANDOM % 2700)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

# ours PID tells whether a process is one of DIR: it runs with
# -c DIR/ceph.conf, or it is this script about to become such a process.
ours() {
	local i args
	mapfile -d '' args 2>/dev/null <"/proc/$1/cmdline" || return 1 # it has ended
	for ((i = 1; i < ${#args[@]}; i++)); do
		case ${args[i - 1]} in
		-c) [ "${args[i]}" = "$conf" ] && return ;;
		start | up | radosgw) [ "${args[i]}" = "$dir" ] && return ;;
		esac
	done
	return 1
}

# pids prints the processes of DIR.
pids() {
	local p
	for p in /proc/[0-9]*; do
		if ours "${p#/proc/}"; then echo "${p#/proc/}"; fi
	done
}

# pid_of NAME prints the process id of a daemon that runs. It looks twice: in
# the middle of exec a process has no arguments.
pid_of() {
	local pid
	pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 1
	ours "$pid" || { [ -e "/proc/$pid" ] && sleep 0.1 && ours "$pid"; } || return 1
	echo "$pid"
}

# spawn NAME COMMAND... runs a daemon with its output in DIR/NAME.out.
spawn() {
	local name=$1
	shift
	setsid "$@" -c "$conf" </dev/null >>"$dir/$name.out" 2>&1 &
	echo $! >"$dir/$name.pid"
}

# await SECONDS NAME COMMAND... polls until the command succeeds, and fails
# when the daemon NAME has ended.
await() {
	local end=$((SECONDS + $1)) name=$2
	shift 2
	until "$@"; do
		if ! pid_of "$name" >/dev/null || [ $SECONDS -ge $end ]; then
			log "$name is not ready; its log ends with:"
			tail -n 15 "$dir/$name.out" "$dir/$name.log" >&2 || true
			return 1
		fi
		sleep 0.05
	done
}

write_conf() { # write_conf FSID PORT OSDS
	local socket=
	[ ${#dir} -lt 80 ] && socket="$dir/\$name.asok"
	cat >"$conf" <<EOF
[global]
fsid = $1
mon_host = [v2:127.0.0.1:$2/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_msgr1 = false
auth_cluster_required = ${AUTH:-none}
auth_service_required = ${AUTH:-none}
auth_client_required = ${AUTH:-none}
ms_mon_client_mode = crc
run_dir = $dir
crash_dir = $dir
keyring = $dir/keyring
log_file = $dir/\$name.log
mon_cluster_log_file = $dir/cluster.log
log_to_stderr = false
err_to_stderr = true
osd_pool_default_size = $(($3 >= 3 ? 2 : 1))
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
[client]
admin_socket =
log_file =
[mon]
mon_data = $dir/mon
admin_socket = $socket
mon_allow_pool_delete = true
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 20000
mon_data_avail_warn = -1
mon_data_avail_crit = -1
mon_warn_on_pool_no_redundancy = false
mon_warn_on_insecure_global_id_reclaim_allowed = false
mon_warn_on_pool_no_app = false
mon_osd_min_down_reporters = 1
mon_osd_down_out_interval = 3600
paxos_propose_interval = 0.1
[mgr]
mgr_data = $dir/mgr
mgr_stats_period = 1
mgr_initial_modules =
mgr_disabled_modules = balancer,crash,devicehealth,influx,insights,iostat,nfs,orchestrator,osd_perf_query,osd_support,pg_autoscaler,progress,prometheus,rbd_support,restful,selftest,snap_schedule,stats,status,telegraf,telemetry,test_orchestrator,volumes,zabbix
[osd]
osd_data = $dir/\$name
admin_socket = $socket
osd_objectstore = ${STORE:-bluestore}
osd_class_load_list = *
osd_class_default_list = *
osd_max_pg_per_osd_hard_ratio = 100
osd_heartbeat_interval = 2
osd_heartbeat_grace = 8
osd_mon_heartbeat_interval = 5
osd_memory_target = 1073741824
osd_scrub_begin_hour = 3
osd_scrub_end_hour = 3
bluestore_block_size = $(numfmt --from=iec "${OSD_SIZE:-4G}")
bdev_aio_poll_ms = 20
bluestore_block_create = true
bluestore_block_preallocate_file = false
bluestore_block_db_create = false
bluestore_block_wal_create = false
memstore_device_bytes = $(numfmt --from=iec "${OSD_SIZE:-4G}")
EOF
	# An OSD that was killed repeats its deferred writes, and may then put old
	# bytes where another object is by now (tracker.ceph.com/issues/68060). It
	# defers what is small on a disk that turns; this leaves few. (0 for the option
	# without _hdd is "as for the kind of disk", and changes nothing.)
	[ "${DEFER:-}" != no ] || echo "bluestore_prefer_deferred_size_hdd = 0" >>"$conf"
}

# write_keys OSDS makes the keys of the monitor, the manager, the OSDs and
# client.admin.
write_keys() {
	local keyring=$dir/keyring i all=(--cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *')
	ceph-authtool -C "$keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
	ceph-authtool "$keyring" --gen-key -n client.admin "${all[@]}"
	ceph-authtool "$keyring" --gen-key -n mgr.a "${all[@]}"
	for ((i = 0; i < $1; i++)); do
		ceph-authtool "$keyring" --gen-key -n "osd.$i" --cap mon 'allow profile osd' --cap osd 'allow *' --cap mgr 'allow profile osd'
	done
}

cephx() { grep -q 'auth_client_required = cephx' "$conf"; }

ceph_commands() { timeout 240 ceph -c "$conf" "$@"; }

osd_serves() { grep -qs "state: booting -> active" "$dir/$1.log"; }

# boot NAME starts an OSD with a log of its own.
boot() {
	if [ -e "$dir/$1.log" ]; then mv -f "$dir/$1.log" "$dir/$1.log.old"; fi
	spawn "$1" ceph-osd -f -i "${1#osd.}"
}

# up NAME starts a daemon and waits until it serves.
up() {
	pid_of "$1" >/dev/null && return 0
	case $1 in
	osd.*)
		boot "$1"
		await 240 "$1" osd_serves "$1"
		;;
	mon.*) spawn "$1" ceph-mon -f -i "${1#mon.}" ;;
	mgr.*) spawn "$1" ceph-mgr -f -i "${1#mgr.}" ;;
	*) usage ;;
	esac
}

end() { # end SIGNAL DAEMON
	local pid
	pid=$(pid_of "$2") || return 0
	kill "-$1" "$pid"
	while pid_of "$2" >/dev/null; do sleep 0.02; done
}

start() { # start OSDS
	local osds=$1 fsid port i uuid mkfs=() keys=() commands=
	[ ! -e "$conf" ] || { log "$conf exists"; exit 1; }
	mkdir -p "$dir/mon" "$dir/mgr"
	fsid=$(cat /proc/sys/kernel/random/uuid)
	port=${MON_PORT:-$(free_port)}
	write_conf "$fsid" "$port" "$osds"
	monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$port]" "$dir/monmap" >/dev/null
	if cephx; then
		write_keys "$osds"
		keys=(--keyring "$dir/keyring")
	fi
	ceph-mon --mkfs -i a -c "$conf" --monmap "$dir/monmap" "${keys[@]}"
	up mon.a
	for ((i = 0; i < osds; i++)); do
		uuid=$(cat /proc/sys/kernel/random/uuid)
		commands+="osd new $uuid $i"$'\n'
		mkdir -p "$dir/osd.$i"
		ceph-osd --mkfs -i "$i" -c "$conf" --no-mon-config --osd-uuid "$uuid" --monmap "$dir/monmap" >"$dir/osd.$i.out" 2>&1 &
		mkfs+=($!)
	done
	commands+="health mute MGR_MODULE_ERROR --sticky"$'\n'
	ceph_commands <<<"$commands" >"$dir/setup.out" 2>&1 || {
		pid_of mon.a >/dev/null || log "the monitor has ended"
		tail -n 15 "$dir/setup.out" "$dir/mon.a.out" "$dir/mon.a.log" >&2 || true
		exit 1
	}
	for i in "${mkfs[@]}"; do wait "$i" || { cat "$dir"/osd.*.out >&2; exit 1; }; done
	up mgr.a
	for ((i = 0; i < osds; i++)); do boot "osd.$i"; done
	for ((i = 0; i < osds; i++)); do await 240 "osd.$i" osd_serves "osd.$i"; done
}

# answers PORT tells whether a radosgw, and nobody else, serves there.
answers() {
	(exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && timeout 10 grep -qi '^x-amz-request-id: tx' <&3) 2>/dev/null
}

radosgw_up() { # radosgw_up NAME PORT OPTIONS...
	local name=client.$1 port=$2
	shift 2
	pid_of "$name" >/dev/null && return 0
	if cephx && ! grep -q "^\[$name\]" "$dir/keyring"; then
		ceph_commands auth get-or-create "$name" mon 'allow rw' osd 'allow rwx' >>"$dir/keyring"
	fi
	# Now and then radosgw misses the monitor's answer and waits for it in vain
	# ("no auth handler is set up"): then it is started again.
	for _ in 1 2 3; do
		spawn "$name" radosgw -f -n "$name" --log-file "$dir/$name.log" --rgw-data "$dir" \
			--rgw-frontends "beast endpoint=127.0.0.1:$port" --rgw-rados-pool-pg-num-min 8 "$@"
		await 60 "$name" answers "$port" && return 0
		end KILL "$name"
	done
	return 1
}

stop() {
	local left
	while left=$(pids) && [ -n "$left" ]; do
		# shellcheck disable=SC2086 # one word per process
		kill -9 $left 2>/dev/null || true
		sleep 0.05
	done
}

case $command in
start) start "${1:-1}" ;;
stop) stop ;;
watch)
	trap '' INT TERM HUP
	cat >/dev/null || true
	stop
	rm -rf "$dir"
	;;
kill) end KILL "$1" ;;
term) end TERM "$1" ;;
up) up "$1" ;;
radosgw) radosgw_up "$@" ;;
*) usage ;;
esac

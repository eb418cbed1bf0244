//go:build rados

package rados

import (
	"strings"
	"time"
)

// Where radosgw keeps its queues, and what it calls things: as 16.2.15 does, and
// later releases do (Ceph: rgw_notify.cc, the zone's notif_pool).
const (
	// RGWPool and RGWNamespace are those of a zone called default.
	RGWPool      = "default.rgw.log"
	RGWNamespace = "notif"
	// RGWCapacity is that of each queue that radosgw makes, in bytes.
	RGWCapacity = 128_000_000

	// rgwRegistry is the object whose omap has the names of all queues that
	// radosgw delivers. It looks there every 30 s.
	rgwRegistry = "queues_list_object"
	// rgwMaxName is the longest name of an object that can be locked: the lock's
	// attribute has it in its own name (osd_max_attr_name_len). A radosgw cannot
	// deliver from others.
	rgwMaxName = 100 - len("lock._lock")
	// rgwStale is the age at which the radosgw that owns a queue ends
	// reservations, rgwExpireEvery how often it looks.
	rgwStale       = 120 * time.Second
	rgwExpireEvery = 30 * time.Second
)

// Methods of the class that only radosgw's queues need.
const (
	methodRGWStats  = "2pc_queue_get_topic_stats" // since release 19
	methodRGWExpire = "2pc_queue_expire_reservations"
)

// rgwLockName is the lock on a queue's object that its owner holds.
func rgwLockName(object string) string { return object + "_lock" }

// rgwObjects returns what the object of one of our queues may be called:
// "TENANT:TOPIC", or, for topics that 16.2.15 made, just "TOPIC", whatever their
// tenant (Ceph: tracker 63018). A topic's other queues have ".1", ".2", ...
// behind it. Names that are none of a topic's queues, or too long for radosgw,
// are not ok: radosgw must not see them.
func rgwObjects(name string) (tenanted, bare string, ok bool) {
	tenant, rest, ok := strings.Cut(name, ":")
	topic, shard, sharded := strings.Cut(rest, ".")
	if !ok || topic == "" || strings.Contains(topic, ":") || sharded && !isShard(shard) {
		return "", "", false
	}
	bare = strings.ReplaceAll(topic, "%2E", ".") // as our topics write it
	if sharded {
		bare += "." + shard
	}
	tenanted = tenant + ":" + bare
	return tenanted, bare, bare != rgwRegistry && len(tenanted) <= rgwMaxName
}

// isShard tells whether s is a number from 1 on as radosgw writes it.
func isShard(s string) bool {
	if s == "" || s[0] == '0' || len(s) > 9 {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

package notifications

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wound is something that users of RGW's notifications, or of others', suffer
// from or ask for, and what tests here that it is not so.
type wound struct {
	what string
	// tests are functions, "PACKAGE.NAME"; PACKAGE is a directory, empty: this
	// one.
	tests string
	// why there is no test, or less than was asked for.
	why string
}

// woundsOfRGW are the known sore points of RGW's notifications.
var woundsOfRGW = []wound{
	{what: "reserved space grows with every event until the queue seems full", tests: "queue/queuetest.testCapacityReturns queue/queuetest.testCheckDrift tests/queues.TestFsck"},
	{what: "an idle connection that is closed reports success", tests: "notify.TestKafka_Results notify.TestHTTPPusher_Close notify.TestMQTTPusher notify.TestAMQPPusher tests/kafka.TestBrokerDown tests/nats.TestFaults tests/redisendpoint.TestFaults"},
	{what: "no reconnect after an idle time", tests: "tests/kafka.TestIdle notify.TestBrokers_Idle tests/amqp.idle"},
	{what: "publishes to a broker that is down pile up", tests: "tests/kafka.TestSyncBrokerDown notify.TestKafka_NoBroker notify.TestHTTPPusher_Room"},
	{what: "with ack level none only the first event is sent", tests: "tests/kafka.TestNotification tests/nats.TestCore"},
	{what: "an endpoint that does not answer blocks uploads", tests: "notify.TestSynchronous_BlackHole tests/httpendpoint.TestSilentEndpoint"},
	{what: "any number of pushes by HTTP at once", tests: "notify.TestHTTPPusher_Room tests/httpendpoint.TestManyInFlight"},
	{what: "a full queue answers 503, and nothing else can be had", tests: ".TestWhenFull .TestPushback notify.TestWhenFull"},
	{what: "one queue per topic limits the rate", tests: ".TestShardedTopicConfigChange notify.TestMany_EvenShares"},
	{what: "old gateways delete only the first shard", tests: "notify.TestTopics_OldRecords notify.TestTopics_Sweep"},
	{what: "a topic that is made again loses its queue; the loop over topics ends at the first failure", tests: "notify.TestDispatcher_EndpointChanged notify.TestDo_OneTopicGone"},
	{what: "a topic's queue outlives it", tests: "notify.TestTopics_NothingLeft notify.TestReserve_RaceOfTopics"},
	{what: "entries are tried for ever", tests: ".TestPersistentTopicConfigs notify.TestTime_TimeToLive notify.TestTime_AttemptsSurvive"},
	{what: "a deleted bucket leaves its notifications behind", tests: ".TestSubscribedBuckets"},
	{what: "topics of two tenants share a queue", tests: ".TestPersistentTenant notify.TestTopics_Dots"},
	{what: "who makes a topic of another's name gets it", tests: "s3api.TestTopic_Permissions .TestTopicPermissions .TestTopicNoPermissions"},
	{what: "topics of a user who moved into an account", tests: ".TestMigrationToAccount"},
	{what: "nothing to tune or observe by", tests: ".TestMetrics"},
	{what: "pushes in flight are taken for the backlog", tests: ".TestMetrics"},
	{what: "an exception in a worker kills the gateway", tests: "notify.TestDispatcher_PanicIsContained"},
	{what: "crashes and repeats at shutdown", tests: "tests/crash.TestKillAtRandom notify.TestMany_JoinAndLeave notify.TestEntryEvent"},
	{what: "of more than 1024 queues the rest is never delivered", tests: "notify.TestManyQueues .TestManyTopics"},
	{what: "events that are given up vanish", tests: "notify.TestDeadLetters notify.TestDeadLetters_Bounded notify.TestDeadLetters_TimeToLive"},
	{what: "attempts are counted anew after a failover", tests: ".TestAttemptsSurviveRestart notify.TestTime_AttemptsSurvive"},
	{what: "what was delivered behind a failure is sent again", tests: ".TestSuccessesAreNotSentAgain"},
	{what: "a long upload loses its reservation", tests: "notify.TestReserve_LongUpload queue/queuetest.testLongUpload tests/interchange.TestLongUpload"},
	{what: "a single Kafka broker", tests: "tests/kafka.TestMultipleBrokers"},
	{what: "entries of older versions cannot be read", tests: "notify.TestRGWEntry_OlderEvent notify.TestRGWEntry_Newer notify.TestTopics_OldRecords notify.TestDispatcher_Undecodable"},
	{what: "sequencers are in no order", tests: ".TestConcurrentPut tests/linear.TestLinear_POSIX"},
	{what: "NextToken where SDKs do not look; PUT merges", tests: "s3api.TestListTopics_Pages s3api.TestNotification_Replace"},
	{what: "ack level none loses events silently", tests: "tests/kafka.TestBrokerDown tests/amqp.levels", why: "creating the topic warns nobody: what each level promises is in docs/endpoints"},
	{what: "a commit of events that fails is only logged", tests: "notify.TestDo_EntriesFail notify.TestRecover_QueueFull"},
}

// woundsOfOthers are what users ask of notifications, or complain about,
// elsewhere.
var woundsOfOthers = []wound{
	{what: "events stop after hours, until a restart", tests: "notify.TestStuck tests/kafka.TestReadinessNames tests/soak.TestSoak"},
	{what: "an endpoint that is down at the start", tests: "tests/nats.TestDeadAtFirst .TestPersistentTopicStats"},
	{what: "a restart between the answer and the queue", tests: "tests/crash.TestFaultPoints tests/crash.TestKillAtRandom"},
	{what: "a full queue drops events and nobody notices", tests: ".TestWhenFull"},
	{what: "queues are polled", tests: "notify.TestDispatcher_Woken queue/queuetest.testWait"},
	{what: "Kafka with one send at a time", tests: "tests/kafka.TestBacklog"},
	{what: "wrong sequencers of a PUT and a DELETE close together", tests: ".TestConcurrentPut notify.TestRecord_Subject tests/linear.TestLinear_POSIX"},
	{what: "events do not go on when the broker is back", tests: "tests/kafka.TestFailures tests/amqp.faults tests/mqtt.TestKilled tests/nats.TestFaults tests/redisendpoint.TestFaults tests/httpendpoint.TestFlapping"},
	{what: "NATS says delivered without an acknowledgement", tests: "notify.TestNATS_JetStream notify.TestNATS_NoJetStream notify.TestNATS_Liar"},
	{what: "events are not tried again when the broker is down", tests: "tests/kafka.TestBrokerDown", why: "the figures of a topic are RGW's, and do not show the ack level: docs/endpoints do"},
	{what: "an endpoint that accepts and never answers", tests: "tests/httpendpoint.TestSilentEndpoint"},
	{what: "one bad endpoint holds up the others", tests: ".TestSilentAmongMany .TestPersistentMultipleEndpoints"},
	{what: "one entry that cannot be read stops the rest", tests: "notify.TestDispatcher_Undecodable"},
	{what: "pushes go on after the notification was removed", why: "what happened while it was there is delivered, as by RGW; who wants nothing of it deletes the topic"},
	{what: "events on a node that is dead", tests: "tests/crash.TestManyGateways_Redis tests/crash.TestManyGateways_RADOS"},
	{what: "the first event after a configuration is missing", tests: ".TestConfigureThenPut"},
	{what: "counts of a queue drift", tests: "queue/queuetest.testCheckDrift queue/queuetest.testModel tests/queues.TestFsck"},
	{what: "a dump of everything", tests: ".TestPersistentTopicDump", why: "--max-entries bounds it; going on after a marker is there for dead letters only"},
	{what: "one object of RADOS per topic", tests: ".TestShardedTopicConfigChange notify.TestMany_EvenShares"},
	{what: "several Lua scripts per context", why: "no part of notifications"},
	{what: "how keys are encoded", tests: ".TestDialects notify.TestFormEncode notify.TestDialect_Golden"},
	{what: "metadata and tags in events", tests: ".TestMetadataFilter .TestTags .TestVersionedDeletion"},
	{what: "tokens, headers, client certificates, SASL", tests: "notify.TestHTTPPusher_Options tests/httpendpoint.TestMTLS tests/httpendpoint.TestSignature tests/httpendpoint.TestSecrets tests/kafka.TestSecurity"},
	{what: "max_retries that is not there", tests: ".TestPersistentTopicConfigs notify.TestTime_RetrySleep"},
	{what: "a guard against requests to inner addresses that nobody can find", tests: "tests/httpendpoint.TestPolicy tests/httpendpoint.TestPolicy_Name notify.TestOutbound_Dial"},
	{what: "notifications that are silently off", tests: ".TestNotificationTest .TestNotificationExplain"},
	{what: "a simple webhook", tests: ".TestNotificationHTTP"},
	{what: "several webhooks by prefix; samples of payloads", tests: ".TestNotificationFilter notify.TestRecord_Golden notify.TestDialect_Golden"},
	{what: "listeners lose events, spin or leak", tests: ".TestListen_Resume .TestListen_Stalled notify.TestListen_Slow notify.TestListen_Forgotten"},
	{what: "calls of Ceph's that the SDK for Go lacks", why: "a client library is no part of notifications"},
}

// TestWounds: the tests that are named are there.
func TestWounds(t *testing.T) {
	checkNames(t, woundsOfRGW)
	checkNames(t, woundsOfOthers)
}

func checkNames(t *testing.T, list []wound) {
	t.Helper()
	sources := map[string]string{}
	source := func(dir string) string {
		if text, ok := sources[dir]; ok {
			return text
		}
		files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no package %s: %v", dir, err)
		}
		var all strings.Builder
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		sources[dir] = all.String()
		return sources[dir]
	}
	for _, w := range list {
		if w.tests == "" && w.why == "" {
			t.Errorf("%s: neither a test nor a reason", w.what)
		}
		for _, name := range strings.Fields(w.tests) {
			dot := strings.LastIndexByte(name, '.')
			dir := name[:dot]
			if dir == "" {
				dir = "tests/notifications"
			}
			if !regexp.MustCompile(`(?m)^func ` + name[dot+1:] + `\(`).MatchString(source(dir)) {
				t.Errorf("%s: there is no %s", w.what, name)
			}
		}
	}
}

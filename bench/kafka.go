package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaJars is where tests/deps.sh puts Kafka.
const kafkaJars = ".deps/kafka"

// kafka starts a broker of its own, with a topic "bench" of four partitions, and
// returns its URL.
func (b *bench) kafka() (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", errors.New("there is no java (make deps)")
	}
	if found, _ := filepath.Glob(filepath.Join(kafkaJars, "kafka_*.jar")); len(found) == 0 {
		return "", fmt.Errorf("there are no jars of Kafka in %s (make deps)", kafkaJars)
	}
	dir, err := b.freshDir("kafka")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	addr, controller, conf := freeAddress(), freeAddress(), filepath.Join(dir, "server.properties")
	properties := []string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@" + controller,
		"listeners=PLAIN://" + addr + ",CONTROLLER://" + controller, "advertised.listeners=PLAIN://" + addr,
		"listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=PLAIN", "controller.listener.names=CONTROLLER",
		"log.dirs=" + filepath.Join(dir, "data"), "num.partitions=4", "auto.create.topics.enable=true",
		"offsets.topic.replication.factor=1",
	}
	if err := os.WriteFile(conf, []byte(strings.Join(properties, "\n")+"\n"), 0o644); err != nil {
		return "", err
	}
	java := func(class string, args ...string) *exec.Cmd {
		return exec.Command("java", append([]string{
			"-Xmx512m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", filepath.Join(kafkaJars, "*"), class,
		}, args...)...)
	}
	if out, err := java("kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", conf).CombinedOutput(); err != nil {
		return "", fmt.Errorf("format Kafka's storage: %w\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := java("kafka.Kafka", conf)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start kafka: %w", err)
	}
	b.brokers = append(b.brokers, cmd)
	if err := awaitKafka(addr); err != nil {
		return "", fmt.Errorf("kafka does not answer: %w; see %s", err, log.Name())
	}
	return "kafka://" + addr, nil
}

// awaitKafka returns when the broker has taken a message of the topic.
func awaitKafka(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.ProduceSync(ctx, &kgo.Record{Topic: topicName, Value: []byte("{}")}).FirstErr()
}

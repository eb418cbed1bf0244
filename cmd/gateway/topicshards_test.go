package main

import "testing"

func TestTopicShards(t *testing.T) {
	for _, c := range []struct {
		queue  string
		config config
		want   int
	}{
		{"embedded", config{}, 11},
		{"redis://h", config{}, 2},
		{"rados://p", config{}, 1},
		{"rados://p", config{QueueRADOSRGWCompatible: true}, 11},
		{"redis://h", config{TopicShards: 7}, 7},
		{"embedded", config{TopicShards: 1}, 1},
	} {
		u, err := parseQueueURL(c.queue)
		if err != nil {
			t.Fatal(err)
		}
		if got := topicShards(u, &c.config); got != c.want {
			t.Errorf("shards on %s with %d = %d, want %d", c.queue, c.config.TopicShards, got, c.want)
		}
	}
}

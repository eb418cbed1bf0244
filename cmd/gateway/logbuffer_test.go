package main

import (
	"bytes"
	"context"
	"testing"
)

func TestLogBuffer(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			b := &logBuffer{w: &out}
			log := newLogger(config{LogLevel: "info", LogFormat: format}, b)
			log.Info("one")
			if out.Len() != 0 {
				t.Errorf("an info line was written at once: %s", out.String())
			}
			log.Warn("two")
			if n := bytes.Count(out.Bytes(), []byte("\n")); n != 2 {
				t.Errorf("%d lines after a warning, want both", n)
			}
			log.Info("three")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := b.Run(ctx); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 3 {
				t.Errorf("Run = %v, wrote %q", err, out.String())
			}
		})
	}
}

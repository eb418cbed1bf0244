package natstest

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
)

var monitorLine = regexp.MustCompile(`Starting http monitor on (\S+:\d+)`)

// Monitor is the configuration that Connections needs.
const Monitor = "http: 127.0.0.1:-1\n"

// clients are the names of the server's clients.
func (s *Server) clients() []string {
	s.t.Helper()
	logs, err := os.ReadFile(s.logs)
	if err != nil {
		s.t.Fatal(err)
	}
	found := monitorLine.FindAllSubmatch(logs, -1)
	if len(found) == 0 {
		s.t.Fatal("the server was started without natstest.Monitor")
	}
	resp, err := http.Get("http://" + string(found[len(found)-1][1]) + "/connz")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	var doc struct {
		Connections []struct{ Name string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, c := range doc.Connections {
		names = append(names, c.Name)
	}
	return names
}

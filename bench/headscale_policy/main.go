// Measures Headscale's own policy compiler: the network comes as JSON on standard input, figures go out as JSON.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/juanfont/headscale/hscontrol/policy/v2"
	"github.com/juanfont/headscale/hscontrol/types"
	"github.com/rs/zerolog"
	"gorm.io/gorm"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

type network struct {
	Policy string `json:"policy"`
	Users  []struct {
		ID    uint   `json:"id"`
		Name  string `json:"name"`
		Email string `json:"email"`
	} `json:"users"`
	Nodes []struct {
		ID     uint64         `json:"id"`
		User   uint           `json:"user"`
		Tags   []string       `json:"tags"`
		V4     netip.Addr     `json:"v4"`
		V6     netip.Addr     `json:"v6"`
		Routes []netip.Prefix `json:"routes"`
	} `json:"nodes"`
	Retagged int      `json:"retagged"`
	NewTags  []string `json:"new_tags"`
	// Stride: the filter of one node in so many is made, and the time multiplied.
	Stride int `json:"stride"`
}

type figures struct {
	Compile   float64 `json:"compile"`
	Filters   float64 `json:"filters"`
	Peers     float64 `json:"peers"`
	Tag       float64 `json:"tag"`
	Endpoint  float64 `json:"endpoint"`
	Megabytes float64 `json:"megabytes"`
	Rules     int     `json:"rules"`
	Pairs     int     `json:"pairs"`
}

func main() {
	zerolog.SetGlobalLevel(zerolog.ErrorLevel)
	var given network
	must(json.NewDecoder(os.Stdin).Decode(&given))
	users, nodes := records(given)
	before := resident()
	var found figures

	started := time.Now()
	manager, err := v2.NewPolicyManager([]byte(given.Policy), users, nodes.ViewSlice())
	must(err)
	found.Compile = time.Since(started).Seconds()

	found.Rules, found.Filters = filters(manager, nodes, given.Stride)
	found.Megabytes = resident() - before

	started = time.Now()
	for _, peers := range manager.BuildPeerMap(nodes.ViewSlice()) {
		found.Pairs += len(peers)
	}
	found.Peers = time.Since(started).Seconds()

	nodes = replaced(nodes, given.Retagged, func(node *types.Node) {
		node.Endpoints = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.7:41641")}
	})
	started = time.Now()
	_, err = manager.SetNodes(nodes.ViewSlice())
	must(err)
	found.Endpoint = time.Since(started).Seconds()
	_, seconds := filters(manager, nodes, given.Stride)
	found.Endpoint += seconds

	nodes = replaced(nodes, given.Retagged, func(node *types.Node) { node.Tags = given.NewTags })
	started = time.Now()
	_, err = manager.SetNodes(nodes.ViewSlice())
	must(err)
	found.Tag = time.Since(started).Seconds()
	_, seconds = filters(manager, nodes, given.Stride)
	found.Tag += seconds

	must(json.NewEncoder(os.Stdout).Encode(found))
}

func records(given network) ([]types.User, types.Nodes) {
	users := make([]types.User, 0, len(given.Users))
	byID := map[uint]*types.User{}
	for _, user := range given.Users {
		users = append(users, types.User{Model: gorm.Model{ID: user.ID}, Name: user.Name, Email: user.Email})
	}
	for i := range users {
		byID[users[i].ID] = &users[i]
	}
	nodes := make(types.Nodes, 0, len(given.Nodes))
	for _, one := range given.Nodes {
		v4, v6 := one.V4, one.V6
		node := &types.Node{
			ID:             types.NodeID(one.ID),
			MachineKey:     key.NewMachine().Public(),
			NodeKey:        key.NewNode().Public(),
			Hostname:       fmt.Sprintf("node-%d", one.ID),
			GivenName:      fmt.Sprintf("node-%d", one.ID),
			IPv4:           &v4,
			IPv6:           &v6,
			Tags:           one.Tags,
			Hostinfo:       &tailcfg.Hostinfo{RoutableIPs: one.Routes},
			ApprovedRoutes: one.Routes,
		}
		if len(one.Tags) == 0 {
			owner := one.User
			node.UserID, node.User = &owner, byID[owner]
		}
		nodes = append(nodes, node)
	}
	return users, nodes
}

// filters has packet filters made, counts their entries, and says how long those of all nodes take.
func filters(manager *v2.PolicyManager, nodes types.Nodes, stride int) (int, float64) {
	rules := 0
	views := nodes.ViewSlice()
	started := time.Now()
	for i := 0; i < views.Len(); i += stride {
		filter, err := manager.FilterForNode(views.At(i))
		must(err)
		for _, rule := range filter {
			rules += len(rule.DstPorts)
		}
	}
	return rules, time.Since(started).Seconds() * float64(stride)
}

// replaced is the same list with one node changed in a copy, as the server's own store does it.
func replaced(nodes types.Nodes, index int, change func(*types.Node)) types.Nodes {
	changed := make(types.Nodes, len(nodes))
	copy(changed, nodes)
	node := *nodes[index]
	change(&node)
	changed[index] = &node
	return changed
}

// resident is the memory of this process in megabytes, garbage given back first.
func resident() float64 {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	must(err)
	for _, line := range strings.Split(string(status), "\n") {
		var kilobytes float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kilobytes); err == nil {
			return kilobytes / 1024
		}
	}
	return 0
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

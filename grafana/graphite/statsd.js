{
  port: 8125,
  servers: [{ server: "./servers/udp", address: "0.0.0.0", port: 8125 }],
  graphiteHost: "127.0.0.1",
  graphitePort: 2003,
  flushInterval: 10000,
  // A gauge is written when it is set and not again every 10 s: a run's score is a point, not a plateau, it outlives a
  // restart of StatsD, and a feature that is no longer important disappears.
  deleteGauges: true,
  // The boards show the 95th percentile of the time of a request.
  percentThreshold: [90, 95],
  backends: ["./backends/graphite"]
}

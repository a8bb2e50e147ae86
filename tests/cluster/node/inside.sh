#!/bin/bash
# Process 1 of the node, in namespaces of its own: mounts what a machine has, starts everything, and reaps what the
# containers leave behind. When it ends, the kernel ends all else that was started here.
#   inside.sh RUN    with PATH, LD_LIBRARY_PATH, KUBECONFIG and the addresses in the environment (see machine.py)
set -euo pipefail
run=$1

mount --make-rshared /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/fs/cgroup
for controller in $CONTROLLERS; do
  mkdir "/sys/fs/cgroup/$controller"
  mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
done
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd # the kubelet wants it
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mount -t mqueue mqueue /dev/mqueue || true
# The kubelet sets these, and they would be set for the whole machine.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1; do
  shadow=$(mktemp -p /run)
  echo "${setting#*=}" > "$shadow"
  mount --bind "$shadow" "/proc/sys/${setting%=*}"
done

hostname node1
ip link set lo up
ip link add node0 type bridge
ip address add "$NODE_ADDRESS/24" dev node0
ip link set node0 up
ip route add default via "${NODE_ADDRESS%.*}.1" dev node0 # nobody is there; without a route services have no addresses
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 || true

start() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >> "$run/log/$name.log" 2>&1 &
}
start containerd containerd --config "$run/containerd.toml"
start etcd etcd --data-dir "$run/etcd" --log-level warn --unsafe-no-fsync \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
start apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --advertise-address "$NODE_ADDRESS" --secure-port 6443 \
  --service-cluster-ip-range "$SERVICE_RANGE" --token-auth-file "$run/pki/tokens.csv" --authorization-mode Node,RBAC \
  --enable-admission-plugins NodeRestriction --client-ca-file "$run/pki/ca.crt" --allow-privileged \
  --tls-cert-file "$run/pki/api.crt" --tls-private-key-file "$run/pki/api.key" \
  --kubelet-client-certificate "$run/pki/kubelet-client.crt" --kubelet-client-key "$run/pki/kubelet-client.key" \
  --kubelet-preferred-address-types InternalIP --service-account-issuer https://kubernetes.default.svc \
  --service-account-key-file "$run/pki/accounts.pub" --service-account-signing-key-file "$run/pki/accounts.key"
until kubectl get --raw /readyz > /dev/null 2>&1; do sleep 0.2; done
start controllers kube-controller-manager --kubeconfig "$run/controllers.conf" --use-service-account-credentials --leader-elect=false \
  --root-ca-file "$run/pki/ca.crt" --service-account-private-key-file "$run/pki/accounts.key" --cluster-cidr "$POD_RANGE"
start scheduler kube-scheduler --kubeconfig "$run/scheduler.conf" --leader-elect=false
start kubelet kubelet --config "$run/kubelet.yaml" --kubeconfig "$run/kubelet.conf" --hostname-override node1 \
  --node-ip "$NODE_ADDRESS" --root-dir "$run/kubelet"
start proxy kube-proxy --config "$run/proxy.yaml" --hostname-override node1
start coredns coredns -conf "$run/Corefile"
while :; do
  sleep 3600 &
  wait $!
done

"""What the node's parts are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS: Final = "10.55.0.2"
SERVICES: Final = "10.96.0.0/16"
API: Final = "10.96.0.1"
DNS: Final = "10.96.0.10"
PODS: Final = "10.244.0.0/24"
PAUSE: Final = "localhost/pause:1"

CONTAINERD: Final = """version = 3
root = "{run}/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{pause}"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true  # where CAP_SYS_RESOURCE is missing, runc may not lower it
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "{programs}/debian/usr/sbin/runc"
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{programs}/cni"]
    conf_dir = "{run}/cni"
"""


def cni() -> dict[str, Any]:
    """How pods are joined: a bridge, and addresses of one range."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True, "ipam": addresses,
    }  # fmt: skip
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def kubelet(run: Path) -> dict[str, Any]:
    """Of the kubelet."""
    scarce = {"memory.available": "100Mi"} | dict.fromkeys(
        ("nodefs.available", "imagefs.available", "nodefs.inodesFree", "imagefs.inodesFree"), "1%"
    )
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{run}/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "volumePluginDir": f"{run}/volume-plugins",
        "podLogsDir": f"{run}/pod-logs",
        "evictionHard": scarce,
    }


def proxy(run: Path) -> dict[str, Any]:
    """Of kube-proxy."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{run}/proxy.conf"},
        "clusterCIDR": PODS,
        # These settings belong to the machine's own network namespace: leave them alone.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def dns() -> list[dict[str, Any]]:
    """CoreDNS runs beside the pods, not in one: its service needs no selector."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {"clusterIP": DNS, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-1",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ADDRESS]}],
            "ports": ports,
        },
    ]

//! Numbers of declarations: each is the place in the configuration's list of its kind, in order of declaration.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub usize);
    };
}

id!(
    /// A shared network, declared or implied by a lone subnet.
    SharedNetworkId
);
id!(
    /// A subnet.
    SubnetId
);
id!(
    /// A pool, declared or implied by a range directly in a subnet.
    PoolId
);
id!(
    /// A host declaration.
    HostId
);
id!(
    /// A class.
    ClassId
);
id!(
    /// A declared subclass (spawned ones have no declaration).
    SubclassId
);
id!(
    /// A failover peer.
    PeerId
);
id!(
    /// A block that owns statements; 0 is the root.
    ScopeId
);

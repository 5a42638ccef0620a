configure_script_up_inside() {
    ip link set lo up
}

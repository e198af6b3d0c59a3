//! The conformance suite of devices; each test is a function of a
//! [`Fixture`](crate::common::Fixture).
//!
//! `suite!(FIXTURE)` makes a test of each, with its own fixture.

pub mod attention;
pub mod convolutions;
pub mod elements;
pub mod forwards;
pub mod fused;
pub mod linear;
pub mod sound;

macro_rules! suite {
    ($fixture:expr) => {
        $crate::conformance::suite! {
            @tests $fixture;
            linear [
                a_linear_layer_equals_its_formula_at_every_precision
                a_row_of_a_linear_layer_has_the_same_bits_whatever_the_other_rows
                a_coarse_linear_layer_is_near_its_formula_and_each_row_its_own
                a_layer_for_many_rows_is_near_its_formula_and_each_row_its_own
            ]
            convolutions [
                a_convolution_equals_its_formula
                a_wide_and_long_convolution_equals_its_formula
                a_convolution_behind_a_snake_is_added_to_what_was_there
                a_transposed_convolution_equals_its_formula
                a_plane_convolution_equals_its_formula
            ]
            attention [
                attention_equals_its_formula
                attention_of_wide_heads_equals_its_formula
                coarse_attention_is_near_attention
                attention_over_cached_positions_equals_attention_whatever_their_parts
                inspected_weights_are_those_of_the_attention
                rows_of_a_block_see_all_of_it_and_their_own_rows_prefix
                a_row_over_cached_positions_has_the_same_bits_whatever_the_other_rows
            ]
            elements [
                activations_equal_their_formulas
                exponentials_end_at_zero_and_stay_finite
                norms_equal_their_formulas
                softmax_equals_its_formula_and_a_row_of_nothing_becomes_zeros
                sums_products_and_gates_equal_their_formulas
                positions_turn_pairs_by_their_angles
                an_lstm_equals_its_formula_for_each_sequence_of_a_batch
                a_table_gives_the_rows_asked_for
                rows_are_repeated_filled_and_scaled
                sinusoids_and_rotary_angles_are_sines_and_cosines_of_their_products
                moments_and_segment_means_equal_their_formulas
                noise_belongs_to_its_row_and_column
                what_goes_between_device_and_host_is_counted
            ]
            sound [
                harmonics_are_sines_at_multiples_with_little_noise_and_noise_alone_where_there_is_no_voice
                harmonics_go_on_where_they_stood
                a_spectrum_equals_its_formula
                overlapping_frames_give_back_the_samples_that_their_spectra_were_taken_of
            ]
            fused [
                a_norm_and_a_linear_layer_as_one_equal_both
                layers_side_by_side_equal_each_of_them
                layers_of_rows_in_bytes_equal_each_of_them
                a_feed_forward_equals_its_layers_in_sequence
                embeddings_with_positions_equal_their_sum
                a_projection_into_pages_equals_product_rotation_and_store
                long_pasts_have_the_same_bits_in_few_rows_and_in_many
                sequences_in_one_pass_equal_each_of_them
            ]
            forwards [
                a_planned_run_equals_a_pooled_one_and_stays_in_its_arena
                a_replayed_forward_equals_an_eager_one_with_what_was_written_anew
                a_replayed_forward_takes_ids_positions_and_places_of_a_cache_anew
                running_out_of_memory_is_reported_once_and_computes_nothing_more
                plans_that_run_in_turn_share_the_room_of_the_largest
            ]
        }
    };
    (@tests $fixture:expr; $($group:ident [$($test:ident)*])*) => {
        $($(
            #[test]
            fn $test() {
                $crate::conformance::$group::$test(&$fixture);
            }
        )*)*
    };
}
pub(crate) use suite;
